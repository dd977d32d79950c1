//! How single values are read, for `deserialize_with`: with bounds, so that aliases cannot multiply long texts, and strictly, so
//! that a key without a value, or one that comes twice, is an error in YAML and JSON alike.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::problem::shown;

/// Longest name, label or other text; bytes.
pub(super) const MAX_TEXT: usize = 1024;

/// A text of at most [`MAX_TEXT`] bytes.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                bounded(text).map(Text)
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

/// This text, if it is not too long.
pub(super) fn bounded<E: de::Error>(text: &str) -> Result<String, E> {
    if text.len() > MAX_TEXT {
        let length = text.len();
        return Err(E::custom(format!("found a text of {length} bytes, expected {MAX_TEXT} at most")));
    }
    Ok(text.to_owned())
}

/// A text that is not empty.
///
/// # Errors
///
/// What it is not, in words for people.
pub fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Text::deserialize(deserializer)?.0 {
        empty if empty.is_empty() => Err(de::Error::custom("found an empty text, expected a text")),
        text => Ok(text),
    }
}

/// [`text`], where the key may be left out.
///
/// # Errors
///
/// What it is not, in words for people.
pub fn optional_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(deserializer).map(Some)
}

/// A list of texts.
///
/// # Errors
///
/// What it is not, in words for people.
pub fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<Text>::deserialize(deserializer)?;
    Ok(texts.into_iter().map(|text| text.0).collect())
}

/// A mapping of texts.
///
/// # Errors
///
/// What it is not, in words for people.
pub fn labels<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, String>, D::Error> {
    let labels: BTreeMap<String, Text> = mapping(d)?;
    Ok(labels.into_iter().map(|(name, text)| (name, text.0)).collect())
}

/// A mapping whose keys come once each: Serde would let the last one win.
///
/// # Errors
///
/// What it is not, in words for people.
pub fn mapping<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Reader<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
        type Value = BTreeMap<String, T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a mapping")
        }

        fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
            unique(entries)
        }
    }
    deserializer.deserialize_map(Reader(PhantomData))
}

/// The entries of a mapping, whose keys come once each.
pub(super) fn unique<'de, A, T>(mut entries: A) -> Result<BTreeMap<String, T>, A::Error>
where
    A: MapAccess<'de>,
    T: Deserialize<'de>,
{
    let mut map = BTreeMap::new();
    while let Some(Text(key)) = entries.next_key()? {
        if map.contains_key(&key) {
            return Err(de::Error::custom(format!("duplicate key `{}`", shown(&key))));
        }
        map.insert(key, entries.next_value()?);
    }
    Ok(map)
}

/// The value of a key that may be left out, but not left empty.
///
/// # Errors
///
/// What it is not, in words for people.
pub fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Bytes written as hexadecimal digits, two each.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |&[high, low]: &[u8; 2]| Some((digit(high)? << 4 | digit(low)?) as u8);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

/// [`SessionKey`](crate::SessionKey) as 64 hexadecimal digits, which no message repeats.
pub(super) mod key {
    use super::*;
    use crate::SessionKey;
    use serde::Serializer;

    /// What a key is written as.
    pub(in super::super) const EXPECTED: &str = "64 hexadecimal digits";

    pub(in super::super) fn serialize<S: Serializer>(
        key: &Option<SessionKey>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match key {
            None => serializer.serialize_none(),
            Some(key) => {
                let digits: String = key.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                serializer.serialize_str(&digits)
            }
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SessionKey>, D::Error> {
        let Text(digits) = Text::deserialize(deserializer)?;
        let bytes = from_hex(&digits).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        match bytes {
            Some(bytes) => Ok(Some(SessionKey::new(bytes))),
            None => Err(de::Error::custom(format!("found something else, expected {EXPECTED}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_pairs_of_digits() {
        assert_eq!(from_hex("00fFa1"), Some(alloc::vec![0, 255, 161]));
        assert_eq!(from_hex(""), Some(alloc::vec![]));
        for bad in ["0", "0x", "+1", "\u{e9}"] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }
}
