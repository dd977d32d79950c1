//! Session tokens: what a client carries so that the router need not remember.
//!
//! A token is the pods' identities and an expiry, sealed by AES-256-GCM-SIV (RFC 8452) and written in URL-safe
//! base64: 70 characters, whatever it says. Without the key it cannot be read, made or changed. The cipher
//! stays safe where a nonce is used twice, which a library without randomness cannot rule out; all a
//! repetition would show is that two tokens are the same.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use aes_gcm_siv::aead::{AeadInOut, KeyInit};
use aes_gcm_siv::{Aes256GcmSiv, Nonce, Tag};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Secret that session tokens are sealed with; every router that shall understand them has the same one.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// A key of 32 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// `RoutedPod::identity` of the pod that answers.
    pub(crate) decode: u64,
    /// That of the pod that prefilled; 0 for none.
    pub(crate) prefill: u64,
    /// Until when it counts; milliseconds.
    pub(crate) expires: u64,
}

const NONCE: usize = 12;
const TEXT: usize = 24;
const TAG: usize = 16;

/// Makes and reads tokens.
pub(crate) struct Sealer {
    cipher: Aes256GcmSiv,
    key: SessionKey,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

impl Sealer {
    pub(crate) fn new(key: &SessionKey) -> Self {
        Self { cipher: Aes256GcmSiv::new(&key.0.into()), key: key.clone() }
    }

    /// A token; `now` makes those of one pod differ.
    pub(crate) fn seal(&self, sealed: Sealed, now: Duration) -> Option<String> {
        let mut token = [0; NONCE + TEXT + TAG];
        let (nonce, rest) = token.split_at_mut(NONCE);
        let (text, tag) = rest.split_at_mut(TEXT);
        for (bytes, number) in text.chunks_exact_mut(8).zip([sealed.decode, sealed.prefill, sealed.expires]) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        // Keyed, so that nobody can try names and times until one gives this nonce.
        let mut secret = Sha256::new_with_prefix(self.key.0);
        secret.update(now.as_nanos().to_le_bytes());
        secret.update(&*text);
        nonce.copy_from_slice(&secret.finalize()[..NONCE]);
        let nonce = Nonce::try_from(&*nonce).ok()?;
        tag.copy_from_slice(&self.cipher.encrypt_inout_detached(&nonce, &[], text.into()).ok()?);
        Some(URL_SAFE_NO_PAD.encode(token))
    }

    /// What a token says; `None` if it was not made with this key, or its time is over.
    pub(crate) fn open(&self, token: &str, now: Duration) -> Option<Sealed> {
        let mut bytes = [0; NONCE + TEXT + TAG];
        let length = URL_SAFE_NO_PAD.decode_slice(token, &mut bytes).ok()?;
        if length != bytes.len() {
            return None;
        }
        let (nonce, rest) = bytes.split_at_mut(NONCE);
        let (text, tag) = rest.split_at_mut(TEXT);
        let (nonce, tag) = (Nonce::try_from(&*nonce).ok()?, Tag::try_from(&*tag).ok()?);
        self.cipher.decrypt_inout_detached(&nonce, &[], (&mut *text).into(), &tag).ok()?;
        let mut numbers =
            text.chunks_exact(8).map(|b| b.iter().rev().fold(0, |n: u64, &b| n << 8 | u64::from(b)));
        let sealed = Sealed { decode: numbers.next()?, prefill: numbers.next()?, expires: numbers.next()? };
        (now.as_millis() < u128::from(sealed.expires)).then_some(sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEALED: Sealed = Sealed { decode: 0x0123_4567_89ab_cdef, prefill: 7, expires: 300_000 };
    const NOW: Duration = Duration::from_secs(1);

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&SessionKey::new([byte; 32]))
    }

    #[test]
    fn a_token_says_to_its_key_what_was_sealed_until_it_expires() {
        let token = sealer(1).seal(SEALED, NOW).expect("sealed");
        assert_eq!(token.len(), 70);
        assert_eq!(sealer(1).open(&token, NOW), Some(SEALED));
        assert_eq!(sealer(1).open(&token, Duration::from_millis(299_999)), Some(SEALED));
        assert_eq!(sealer(1).open(&token, Duration::from_secs(300)), None);
        assert_eq!(sealer(2).open(&token, NOW), None);
    }

    #[test]
    fn no_changed_or_foreign_token_is_believed() {
        let token = sealer(1).seal(SEALED, NOW).expect("sealed");
        for at in 0..token.len() {
            for other in ["A", "b", "9", "-", "_", "=", "/", "\u{e9}"] {
                let changed = alloc::format!("{}{other}{}", &token[..at], &token[at + 1..]);
                assert_eq!(sealer(1).open(&changed, NOW).is_some(), changed == token, "{changed}");
            }
        }
        for foreign in ["", "cG9kLTA=", &token[1..], &alloc::format!("{token}AAAA")] {
            assert_eq!(sealer(1).open(foreign, NOW), None, "{foreign}");
        }
    }

    #[test]
    fn tokens_of_one_pod_look_different_and_all_have_one_length() {
        let one = sealer(1).seal(SEALED, NOW).expect("sealed");
        let later = sealer(1).seal(SEALED, NOW + Duration::from_nanos(1)).expect("sealed");
        let other = sealer(1).seal(Sealed { decode: 1, ..SEALED }, NOW).expect("sealed");
        assert!(one != later && one != other);
        assert_eq!((one.len(), one.len()), (later.len(), other.len()));
        let alike = one.bytes().zip(later.bytes()).filter(|(a, b)| a == b).count();
        assert!(alike < 20, "{alike} of 70 characters are the same");
    }
}
