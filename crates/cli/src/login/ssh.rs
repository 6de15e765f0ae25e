//! Who signs: the SSH agent, or a key file. Invariant: of the agent nothing is taken but signatures and public keys, and not more than was asked for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use landfast_identity::ssh::{SshError, SshPrivateKey, SshPublicKey, SshSignature, to_be_signed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::failure::Failure;

pub(super) enum Signer {
    File(Box<SshPrivateKey>),
    Agent { socket: PathBuf, key: SshPublicKey },
}

impl Signer {
    /// The key of this file, or the one that the agent has.
    pub(super) async fn find(file: Option<&Path>, socket: Option<&Path>) -> Result<Self, Failure> {
        let Some(file) = file else {
            let socket = agent_at(socket)?;
            let key = only(listed(socket).await?)?;
            return Ok(Self::Agent {
                socket: socket.to_owned(),
                key,
            });
        };
        let shown = file.display();
        let text = zeroize::Zeroizing::new(std::fs::read_to_string(file).map_err(|error| {
            Failure::failed(
                format!("cannot read {shown}: {error}"),
                "--ssh-key wants a key of OpenSSH, private or public",
            )
        })?);
        if text.trim_start().starts_with("-----") {
            let key = SshPrivateKey::from_pem(&text);
            return key.map(|key| Self::File(Box::new(key))).map_err(|error| {
                let hint = match error {
                    SshError::Encrypted => format!("give it to the agent, and the public half to this: ssh-add {shown}, --ssh-key {shown}.pub"),
                    _ => "ssh-keygen -t ed25519 makes one that is accepted".to_owned(),
                };
                Failure::failed(format!("{shown}: {error}"), hint)
            });
        }
        let key = SshPublicKey::from_line(&text).map_err(|error| {
            Failure::failed(
                format!("{shown}: {error}"),
                "ssh-keygen -t ed25519 makes one that is accepted",
            )
        })?;
        let socket = agent_at(socket)?;
        match listed(socket).await?.contains(&key) {
            true => Ok(Self::Agent {
                socket: socket.to_owned(),
                key,
            }),
            false => Err(Failure::failed(
                format!("the SSH agent does not have {}", key.fingerprint()),
                "ssh-add the key; ssh-add -l shows what it has",
            )),
        }
    }

    /// `SHA256:…`
    pub(super) fn fingerprint(&self) -> String {
        match self {
            Self::File(key) => key.public_key(),
            Self::Agent { key, .. } => key,
        }
        .fingerprint()
        .to_string()
    }

    pub(super) async fn sign(&self, namespace: &str, message: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::File(key) => key
                .sign(namespace, message)
                .map_err(|error| Failure::failed(error.to_string(), "try again")),
            Self::Agent { socket, key } => {
                let mut request = vec![SIGN_REQUEST];
                string(&mut request, key.blob());
                string(&mut request, &to_be_signed(namespace, message));
                request.extend_from_slice(&0_u32.to_be_bytes());
                let answer = ask(socket, &request).await?;
                let signature = answer
                    .strip_prefix(&[SIGN_RESPONSE])
                    .and_then(|rest| take(&mut &*rest));
                let signature = signature.ok_or_else(|| {
                    Failure::failed(
                        "the SSH agent has not signed",
                        "is the key locked, or does it want to be confirmed or touched?",
                    )
                })?;
                Ok(SshSignature::assemble(key, namespace, &signature))
            }
        }
    }
}

fn agent_at(socket: Option<&Path>) -> Result<&Path, Failure> {
    socket.filter(|path| !path.as_os_str().is_empty()).ok_or_else(|| {
        Failure::usage(
            "there is no SSH agent",
            "start one (eval $(ssh-agent); ssh-add), or give a key: --ssh-key FILE",
        )
    })
}

fn only(keys: Vec<SshPublicKey>) -> Result<SshPublicKey, Failure> {
    let names: Vec<String> = keys.iter().map(|key| key.fingerprint().to_string()).collect();
    let mut keys = keys.into_iter();
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key),
        (None, _) => Err(Failure::failed(
            "the SSH agent has no key that is accepted",
            "ssh-add one of ssh-ed25519 or ecdsa-sha2-nistp256, on a security key or not",
        )),
        (Some(_), Some(_)) => Err(Failure::usage(
            format!("the SSH agent has several keys: {}", names.join(", ")),
            "say which: --ssh-key FILE.pub",
        )),
    }
}

/// The keys that the agent has and that we know.
async fn listed(socket: &Path) -> Result<Vec<SshPublicKey>, Failure> {
    let answer = ask(socket, &[LIST_REQUEST]).await?;
    let keys = answer.strip_prefix(&[LIST_RESPONSE]).and_then(|rest| {
        let (count, mut rest) = rest.split_at_checked(4)?;
        let count = u32::from_be_bytes(count.try_into().ok()?);
        let mut keys = Vec::new();
        for _ in 0..count {
            let (blob, _comment) = (take(&mut rest)?, take(&mut rest)?);
            keys.extend(SshPublicKey::from_blob(&blob).ok());
        }
        Some(keys)
    });
    keys.ok_or_else(|| strange(socket))
}

/// One message and its answer.
async fn ask(socket: &Path, message: &[u8]) -> Result<Vec<u8>, Failure> {
    let shown = socket.display();
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        let mut request = Vec::new();
        string(&mut request, message);
        stream.write_all(&request).await?;
        let length = stream.read_u32().await?;
        if length > MOST {
            return Err(std::io::Error::other("its answer is too long"));
        }
        let mut answer = vec![0; length as usize];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    let hint = "ssh-add -l shows whether it answers; another one is given with --ssh-agent";
    match tokio::time::timeout(WAIT, exchange).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Failure::failed(
            format!("the SSH agent at {shown}: {error}"),
            hint,
        )),
        Err(_elapsed) => Err(Failure::failed(
            format!("the SSH agent at {shown} does not answer"),
            hint,
        )),
    }
}

fn strange(socket: &Path) -> Failure {
    Failure::failed(
        format!("what answers at {} is no SSH agent", socket.display()),
        "SSH_AUTH_SOCK, or --ssh-agent, names its socket",
    )
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn take(from: &mut &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = from.split_at_checked(4)?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let (taken, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *from = rest;
    Some(taken.to_vec())
}

const LIST_REQUEST: u8 = 11;
const LIST_RESPONSE: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
/// As OpenSSH's own clients have it.
const MOST: u32 = 256 * 1024;
/// Somebody may have to confirm, or to touch the key.
const WAIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_agents_words_no_more_is_taken_than_is_there() {
        let mut message = Vec::new();
        string(&mut message, b"abc");
        string(&mut message, b"");
        let mut rest = &message[..];
        assert_eq!(take(&mut rest).unwrap(), b"abc");
        assert_eq!(take(&mut rest).unwrap(), b"");
        assert_eq!(take(&mut rest), None);
        for bad in [&[0, 0, 0, 4, 1, 2, 3][..], &[0, 0, 0], &[0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(take(&mut &*bad), None);
        }
    }
}
