//! A proof is good for what was signed and for nothing else.

use proptest::prelude::*;

use super::*;
use crate::key::KeyType;

/// What is claimed, in forms that can be compared and changed.
#[derive(Clone, Debug, PartialEq)]
struct Said {
    trust_domain: String,
    path: String,
    nonce: [u8; 32],
    csr_key: usize,
    counter: u64,
}

struct Keys {
    device: [PrivateKey; 2],
    csr: [PublicKey; 2],
}

fn keys() -> Keys {
    let key = || PrivateKey::generate().unwrap();
    Keys {
        device: [key(), key()],
        csr: [key().public_key(), key().public_key()],
    }
}

impl Said {
    fn with<T>(&self, keys: &Keys, then: impl FnOnce(RecoveryProof<'_>) -> T) -> T {
        let id = SpiffeId::parse(&format!(
            "spiffe://{}/spire/agent/join_token/{}",
            self.trust_domain, self.path
        ));
        then(RecoveryProof {
            agent_id: &id.unwrap(),
            nonce: &self.nonce,
            csr_key: &keys.csr[self.csr_key],
            counter: self.counter,
        })
    }
}

fn said() -> impl Strategy<Value = Said> {
    (
        "[a-c]{1,2}\\.test",
        "[a-c]{1,2}",
        prop_oneof![Just([0_u8; 32]), any::<[u8; 32]>()],
        0..2_usize,
        prop_oneof![0..3_u64, any::<u64>()],
    )
        .prop_map(|(trust_domain, path, nonce, csr_key, counter)| Said {
            trust_domain,
            path,
            nonce,
            csr_key,
            counter,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_proof_verifies_exactly_what_was_signed_under_exactly_the_key(signed in said(), shown in said(), by in 0..2_usize) {
        let keys = keys();
        let signature = signed.with(&keys, |proof| proof.sign(&keys.device[0])).unwrap();
        let verified = shown.with(&keys, |proof| proof.verify(&keys.device[by].public_key(), &signature));
        prop_assert_eq!(verified.is_ok(), signed == shown && by == 0);
    }

    #[test]
    fn no_flipped_bit_verifies(bit in 0..2048_usize) {
        let (keys, id) = (keys(), SpiffeId::parse("spiffe://a.test/spire/agent/x/y").unwrap());
        let proof = RecoveryProof { agent_id: &id, nonce: &[7; 32], csr_key: &keys.csr[0], counter: 1 };
        let mut signature = proof.sign(&keys.device[0]).unwrap();
        let bit = bit % (signature.len() * 8);
        signature[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(proof.verify(&keys.device[0].public_key(), &signature).is_err());
    }
}

#[test]
fn each_field_counts() {
    let keys = keys();
    let honest = Said {
        trust_domain: "a.test".into(),
        path: "node".into(),
        nonce: [7; 32],
        csr_key: 0,
        counter: 4,
    };
    let signature = honest.with(&keys, |proof| proof.sign(&keys.device[0])).unwrap();
    let device = keys.device[0].public_key();
    assert!(
        honest
            .with(&keys, |proof| proof.verify(&device, &signature))
            .is_ok()
    );
    let others = [
        Said {
            trust_domain: "b.test".into(),
            ..honest.clone()
        },
        Said {
            path: "edon".into(),
            ..honest.clone()
        },
        Said {
            nonce: [8; 32],
            ..honest.clone()
        },
        Said {
            csr_key: 1,
            ..honest.clone()
        },
        Said {
            counter: 5,
            ..honest.clone()
        },
    ];
    for other in others {
        let verified = other.with(&keys, |proof| proof.verify(&device, &signature));
        assert!(matches!(verified, Err(KeyError::BadSignature)), "{other:?}");
    }
}

#[test]
fn a_registration_is_no_recovery_and_is_signed_by_the_key_itself() {
    let keys = keys();
    let id = SpiffeId::parse("spiffe://a.test/spire/agent/join_token/node").unwrap();
    let other = SpiffeId::parse("spiffe://a.test/spire/agent/join_token/other").unwrap();
    let public = keys.device[0].public_key();
    let proof = RegistrationProof {
        agent_id: &id,
        device_key: &public,
    };
    let signature = proof.sign(&keys.device[0]).unwrap();
    proof.verify(&signature).unwrap();
    assert!(
        RegistrationProof {
            agent_id: &other,
            ..proof
        }
        .verify(&signature)
        .is_err()
    );
    // The key of somebody else cannot be registered by who does not hold it.
    let theirs = keys.device[1].public_key();
    let stolen = RegistrationProof {
        device_key: &theirs,
        ..proof
    };
    assert!(stolen.verify(&signature).is_err());
    assert!(stolen.verify(&stolen.sign(&keys.device[0]).unwrap()).is_err());
    let recovery = RecoveryProof {
        agent_id: &id,
        nonce: &[0; 32],
        csr_key: &public,
        counter: 0,
    };
    assert!(recovery.verify(&public, &signature).is_err());
}

#[test]
fn a_device_key_is_of_p256() {
    let device = PrivateKey::generate_as(KeyType::EcP384).unwrap();
    let id = SpiffeId::parse("spiffe://a.test/spire/agent/join_token/node").unwrap();
    let public = device.public_key();
    let proof = RegistrationProof {
        agent_id: &id,
        device_key: &public,
    };
    let signature = proof.sign(&device).unwrap();
    assert!(matches!(proof.verify(&signature), Err(KeyError::WrongScheme)));
}
