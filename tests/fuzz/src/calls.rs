//! How bytes become calls: two bytes that choose, two of length (little-endian), and a message; again and again.

/// One call of an input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call<'a> {
    /// Who calls.
    pub caller: u8,
    /// What is called.
    pub method: u8,
    /// The message as it stands on the wire.
    pub message: &'a [u8],
}

/// The first calls of an input.
pub fn parse(mut input: &[u8]) -> Vec<Call<'_>> {
    let mut calls = Vec::new();
    while let [caller, method, low, high, rest @ ..] = input {
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let (message, after) = rest.split_at(length.min(rest.len()));
        calls.push(Call {
            caller: *caller,
            method: *method,
            message,
        });
        input = after;
        if calls.len() == MAX_CALLS {
            break;
        }
    }
    calls
}

/// The input of one call; for seeds.
///
/// # Panics
/// When the message is longer than a length can say.
pub fn write(caller: u8, method: u8, message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a seed of less than 64 KiB");
    [&[caller, method], &length.to_le_bytes()[..], message].concat()
}

const MAX_CALLS: usize = 8;
