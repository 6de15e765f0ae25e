//! Requests as bytes, for clients that are no gRPC clients: rigs in C, and attackers.
//!
//! Invariant: a request here is what every client may send; only its way of sending it is unusual.

/// A header block of literal fields, uncompressed (RFC 7541 §6.2.2).
pub fn header_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("a short text, as this encoding has"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    assert!(
        fields.iter().all(|(n, v)| n.len() < 127 && v.len() < 127),
        "longer ones need another encoding"
    );
    block
}

/// One HTTP/2 frame (RFC 9113 §4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a short payload")
        .to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The connection preface with an empty SETTINGS frame.
pub fn preface() -> Vec<u8> {
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
        &frame(SETTINGS, 0, 0, &[]),
    ]
    .concat()
}

/// The headers of a call of the Workload API, with its security header.
pub fn call(path: &str) -> Vec<(&str, &str)> {
    vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("workload.spiffe.io", "true"),
    ]
}

/// HEADERS and an empty message on a stream.
pub fn request(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    let headers = frame(HEADERS, END_HEADERS, stream, &header_block(fields));
    [headers, frame(DATA, END_STREAM, stream, &[0; 5])].concat()
}

/// A whole connection that asks for X.509-SVIDs once.
pub fn fetch_x509() -> Vec<u8> {
    [preface(), request(1, &call(FETCH_X509))].concat()
}

/// The method every workload begins with.
pub const FETCH_X509: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
/// Frame types (RFC 9113 §6).
pub const DATA: u8 = 0;
/// See [`DATA`].
pub const HEADERS: u8 = 1;
/// See [`DATA`].
pub const RST_STREAM: u8 = 3;
/// See [`DATA`].
pub const SETTINGS: u8 = 4;
/// See [`DATA`].
pub const PING: u8 = 6;
/// See [`DATA`].
pub const WINDOW_UPDATE: u8 = 8;
/// See [`DATA`].
pub const CONTINUATION: u8 = 9;
/// A flag of DATA and HEADERS.
pub const END_STREAM: u8 = 1;
/// A flag of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;
