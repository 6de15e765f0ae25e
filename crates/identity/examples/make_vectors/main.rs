//! Writes the vector files under `tests/vectors`, one case a file. Run by hand after a rule was added:
//! `cargo run -p landfast-identity --example make_vectors`. Fixed times, so that no vector ever expires.

mod csr;
mod device;
mod jwt;
mod x509;

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// 2027-01-15T08:00:00Z, the moment at which most vectors are judged.
const NOW: i64 = 1_800_000_000;

struct Vectors(PathBuf);

impl Vectors {
    fn case(&self, name: &str, expect: &str, note: &str, body: &str) -> Result<(), Box<dyn Error>> {
        let mut file = File::create(self.0.join(format!("{name}.txt")))?;
        write!(file, "expect: {expect}\nnote: {note}\n{body}")?;
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors");
    let folder = |name: &str| -> Result<Vectors, Box<dyn Error>> {
        let path = root.join(name);
        fs::create_dir_all(&path)?;
        Ok(Vectors(path))
    };
    let rsa_key = fs::read_to_string(root.join("keys/rsa-2048.pem"))?;
    x509::write(&folder("x509")?, &rsa_key)?;
    device::write(&folder("device")?)?;
    jwt::write(&folder("jwt")?, &rsa_key)?;
    csr::write(&folder("csr")?, &rsa_key)
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        n @ 0..=127 => out.push(n as u8),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend_from_slice(content);
    out
}

/// An RSA key of any size that nobody holds: enough where the size is judged first.
fn hollow_rsa_key(bits: usize) -> Vec<u8> {
    let mut n = vec![0xc5; bits / 8 + 1];
    n[0] = 0;
    der(0x30, &[der(2, &n), der(2, &[1, 0, 1])].concat())
}

/// An RSA key of the form of CVE-2017-15361: a power of 65537 modulo each of the first primes. Nobody holds it either.
fn guessable_rsa_key() -> Vec<u8> {
    use num_bigint::BigUint;
    let is_prime = |n: &u32| (2..*n).all(|d| !n.is_multiple_of(d));
    let product: BigUint = (2..=701_u32).filter(is_prime).map(BigUint::from).product();
    let power = BigUint::from(65_537_u32).modpow(&BigUint::from(987_654_321_u32), &product);
    let n: BigUint = ((BigUint::from(1_u8) << 2047) / &product + 1_u8) * product + power;
    let n = [&[0], &n.to_bytes_be()[..]].concat();
    der(0x30, &[der(2, &n), der(2, &[1, 0, 1])].concat())
}

fn pem(label: &str, bytes: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(bytes);
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .filter_map(|l| std::str::from_utf8(l).ok())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
