//! What age seals is opened, what is changed is not.

use proptest::prelude::*;

use super::*;

/// Made by age-keygen 1.1.1 for this test.
const IDENTITY: &str = "AGE-SECRET-KEY-1SKVW0S4SD4F0LC80HU2FRDVDTVY90JM5HN5UQ0WWKJEPSPU34E6QU6NAL2";
const RECIPIENT: &str = "age18yj7c4yflurln7keqjhkheyfs8jptzv2n7ngzyh4p6yq2xwj6p9q6xahz3";
/// `printf 'what landfast seals' | age -r RECIPIENT | base64`, age 1.1.1.
const SEALED: &str = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSA2V1dxZzlxQ1BKYkhLaTdJcnpxKzZEL1J3S1k1YkFkc0tmbEhlZUhLKzBvCjN1aVhNM09iZjFyaDJ0MzloNDVwN1BRU055S0YyZDI5VWFaYjJnNnVZYkEKLS0tIC9CTE9RSkJJeDh1UEpXWEIySUxIVktqVTdGZjVrTjFCcUQ2OGNwcmhrK0kKuOSltbpLqMFpdiKC6JIOOD6dKbXhK9xs3ilZNDtaX2wiqUB4QI8tzrrTTRbu50II8lHb";
/// Cheap enough for a test.
const LOG_N: u8 = 4;

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.as_bytes().to_vec()))
}

fn ours() -> Unlock {
    Unlock::Identities(vec![IDENTITY.parse().unwrap()])
}

fn for_us() -> Lock {
    Lock::Recipients(vec![RECIPIENT.parse().unwrap()])
}

fn with_passphrase(text: &str) -> Lock {
    Lock::Passphrase {
        passphrase: passphrase(text),
        log_n: LOG_N,
    }
}

#[test]
fn what_age_sealed_is_opened() {
    use base64::Engine as _;
    let sealed = base64::engine::general_purpose::STANDARD.decode(SEALED).unwrap();
    assert_eq!(open(&sealed, &ours()).unwrap().as_slice(), b"what landfast seals");
}

#[test]
fn keys_are_written_as_age_keygen_writes_them() {
    let identity: Identity = IDENTITY.parse().unwrap();
    assert_eq!(identity.recipient().to_string(), RECIPIENT);
    assert_eq!(*identity.reveal(), IDENTITY);
    assert_eq!(format!("{identity:?}"), "Identity(..)");
    let made = Identity::generate().unwrap();
    let again: Identity = made.reveal().parse().unwrap();
    assert_eq!(again.recipient(), made.recipient());
}

#[test]
fn a_typing_error_in_a_key_is_found() {
    for at in 0..RECIPIENT.len() {
        let mut text = RECIPIENT.to_owned().into_bytes();
        text[at] = if text[at] == b'q' { b'p' } else { b'q' };
        let text = String::from_utf8(text).unwrap();
        assert!(text.parse::<Recipient>().is_err(), "{text}");
    }
    for text in [
        "",
        "age1",
        "age",
        RECIPIENT.to_uppercase().as_str(),
        &RECIPIENT[..61],
        IDENTITY,
    ] {
        assert!(text.parse::<Recipient>().is_err(), "{text}");
    }
    for text in [
        "",
        "AGE-SECRET-KEY-1",
        IDENTITY.to_lowercase().as_str(),
        &IDENTITY[..73],
        RECIPIENT,
    ] {
        assert!(text.parse::<Identity>().is_err(), "{text}");
    }
}

#[test]
fn each_recipient_opens_it_and_nobody_else() {
    let other = Identity::generate().unwrap();
    let lock = Lock::Recipients(vec![other.recipient(), RECIPIENT.parse().unwrap()]);
    let sealed = seal(b"secret", &lock).unwrap();
    for identities in [
        vec![other],
        vec![Identity::generate().unwrap(), IDENTITY.parse().unwrap()],
    ] {
        let opened = open(&sealed, &Unlock::Identities(identities)).unwrap();
        assert_eq!(opened.as_slice(), b"secret");
    }
    let stranger = Unlock::Identities(vec![Identity::generate().unwrap()]);
    assert!(matches!(open(&sealed, &stranger), Err(AgeError::NotForUs)));
    let guess = Unlock::Passphrase(passphrase("secret"));
    assert!(matches!(open(&sealed, &guess), Err(AgeError::NotForUs)));
}

#[test]
fn a_passphrase_opens_it_and_no_other() {
    let sealed = seal(b"secret", &with_passphrase("correct horse")).unwrap();
    let opened = open(&sealed, &Unlock::Passphrase(passphrase("correct horse")));
    assert_eq!(opened.unwrap().as_slice(), b"secret");
    for wrong in ["correct horsf", "", "correct horse\n"] {
        let refused = open(&sealed, &Unlock::Passphrase(passphrase(wrong)));
        assert!(matches!(refused, Err(AgeError::NotForUs)), "{wrong}");
    }
    assert!(matches!(open(&sealed, &ours()), Err(AgeError::NotForUs)));
}

#[test]
fn more_work_than_is_reasonable_is_not_begun() {
    let sealed = seal(b"secret", &with_passphrase("correct horse")).unwrap();
    let text = String::from_utf8_lossy(&sealed);
    let salt = text.lines().nth(1).unwrap().split(' ').nth(2).unwrap().to_owned();
    let with_work = |work: &str| {
        let from = format!("-> scrypt {salt} {LOG_N}\n");
        let to = format!("-> scrypt {salt} {work}\n");
        let at = sealed
            .windows(from.len())
            .position(|w| w == from.as_bytes())
            .unwrap();
        [&sealed[..at], to.as_bytes(), &sealed[at + from.len()..]].concat()
    };
    let unlock = Unlock::Passphrase(passphrase("correct horse"));
    let refused = open(&with_work("19"), &unlock);
    assert!(
        matches!(refused, Err(AgeError::TooMuchWork { log_n: 19 })),
        "{refused:?}"
    );
    for work in ["0", "64", "04", "+4", "", "4 4"] {
        let refused = open(&with_work(work), &unlock);
        assert!(
            matches!(refused, Err(AgeError::Malformed(_) | AgeError::NotForUs)),
            "{work}: {refused:?}"
        );
    }
}

#[test]
fn every_size_around_a_chunk_comes_back() {
    for size in [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000] {
        let plain: Vec<u8> = (0..size).map(|i: u32| i.to_le_bytes()[0]).collect();
        let sealed = seal(&plain, &for_us()).unwrap();
        assert!(*open(&sealed, &ours()).unwrap() == plain, "{size}");
    }
}

/// Chunks that are cut off, exchanged or added.
#[test]
fn a_content_that_was_rearranged_is_refused() {
    let plain = vec![7; 2 * 65_536 + 10];
    let sealed = seal(&plain, &for_us()).unwrap();
    let content = sealed.len() - (plain.len() + 3 * TAG);
    let (head, chunks) = sealed.split_at(content);
    let (first, rest) = chunks.split_at(65_536 + TAG);
    let (second, last) = rest.split_at(65_536 + TAG);
    for changed in [
        vec![first, second],
        vec![first],
        vec![first, last],
        vec![second, first, last],
        vec![first, second, last, last],
        vec![first, second, last, &[0; TAG]],
        vec![],
    ] {
        let changed = [&[head][..], &changed].concat().concat();
        assert!(matches!(open(&changed, &ours()), Err(AgeError::Damaged)));
    }
}

/// X25519 of a point of small order is the same for everybody.
#[test]
fn a_key_of_small_order_is_none() {
    let zero = bech32::encode("age", &[0; 32]);
    let recipient: Recipient = zero.parse().unwrap();
    let refused = seal(b"secret", &Lock::Recipients(vec![recipient]));
    assert!(matches!(refused, Err(AgeError::NoRecipient(_))), "{refused:?}");
    let stanza = Stanza {
        args: vec!["X25519".to_owned(), header::base64(&[0; 32])],
        body: vec![0; FILE_KEY + TAG],
    };
    let refused = x25519::unwrap(&IDENTITY.parse().unwrap(), &stanza);
    assert!(matches!(refused, Err(AgeError::Malformed(_))), "{refused:?}");
}

#[test]
fn a_change_of_any_byte_is_found_and_any_cut() {
    let sealed = seal(b"a short secret", &for_us()).unwrap();
    for at in 0..sealed.len() {
        for with in [1, 0x20, 0x80] {
            let mut changed = sealed.clone();
            changed[at] ^= with;
            assert!(open(&changed, &ours()).is_err(), "byte {at} ^ {with}");
        }
        assert!(open(&sealed[..at], &ours()).is_err(), "cut at {at}");
    }
    assert!(open(&[&sealed[..], b"\n"].concat(), &ours()).is_err());
}

proptest! {
    #[test]
    fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(open(&bytes, &ours()).is_err());
        let header = [b"age-encryption.org/v1\n-> X25519 ", &bytes[..]].concat();
        prop_assert!(open(&header, &ours()).is_err());
    }

    #[test]
    fn bech32_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let text = bech32::encode("age", &bytes);
        prop_assert_eq!(bech32::decode("age", &text), Some(bytes));
        prop_assert_eq!(bech32::decode("ag", &text), None);
    }
}
