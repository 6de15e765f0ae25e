//! Values as SPIRE writes them.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use landfast_daemon::config::HumanDuration;

/// Go's way: `1h30m`, `1.5h`, `300ms`. Never negative.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut whole = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let letters = behind
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(behind.len());
        let (unit, after) = behind.split_at(letters);
        let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        whole = whole.checked_add(part)?;
        rest = after;
    }
    Some(whole)
}

/// As our files have it.
pub(super) fn human(duration: Duration) -> String {
    super::toml::quoted(&HumanDuration::new(duration).to_string())
}

/// An address; a name only when it is the loopback's.
pub(super) fn ip(host: &str) -> Option<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(IpAddr::from([127, 0, 0, 1]));
    }
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

pub(super) fn socket_address(host: &str, port: u16) -> Option<SocketAddr> {
    ip(host).map(|ip| SocketAddr::new(ip, port))
}

/// `host:port`, with an IPv6 address in brackets.
pub(super) fn host_port(host: &str, port: u16) -> String {
    match ip(host) {
        Some(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

pub(super) fn is_absolute(path: &str) -> bool {
    Path::new(path).is_absolute()
}

const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, millis) in [
            ("24h", 86_400_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("300ms", 300),
            ("0", 0),
            ("2m0.5s", 120_500),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for wrong in [
            "",
            "1",
            "h",
            "1d",
            "-1h",
            "1h ",
            "1.2.3s",
            "1hh",
            "99999999999999999999h",
            "1e9s",
        ] {
            // White space around is not SPIRE's either, but harmless.
            assert_eq!(duration(wrong).is_some(), wrong == "1h ", "{wrong}");
        }
        assert_eq!(human(Duration::from_secs(5400)), "\"90m\"");
    }

    #[test]
    fn addresses_of_both_families_are_written_with_their_port() {
        assert_eq!(host_port("::1", 81), "[::1]:81");
        assert_eq!(host_port("[::1]", 81), "[::1]:81");
        assert_eq!(host_port("spire.example", 81), "spire.example:81");
        assert_eq!(socket_address("localhost", 1).unwrap().to_string(), "127.0.0.1:1");
        assert_eq!(socket_address("spire.example", 1), None);
    }
}
