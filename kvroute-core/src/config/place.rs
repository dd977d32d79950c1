//! Where in a document a value stands that turned out wrong after the document had been read: the
//! document is read once more, down the path and past everything else.

use alloc::string::String;
use core::fmt;
use core::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_saphyr::Spanned;

use super::problem::{Path, Place, Step};

/// Where `path` is in a YAML document that was read with these options.
pub(super) fn in_yaml(document: &str, options: serde_saphyr::Options, path: &Path) -> Option<Place> {
    let found = serde_saphyr::with_deserializer_from_str_with_options(document, options, |deserializer| {
        Seek::<Spanned<IgnoredAny>>::new(&path.0).deserialize(deserializer)
    });
    let place = found.ok()??.referenced;
    (place.line() > 0).then(|| (place.line(), place.column()))
}

/// Where `path` is in a JSON document.
pub(super) fn in_json(document: &str, path: &Path) -> Option<Place> {
    let mut deserializer = serde_json::Deserializer::from_str(document);
    let found: Option<&RawValue> = Seek::new(&path.0).deserialize(&mut deserializer).ok()?;
    // The raw value is a part of the document.
    let offset = (found?.get().as_ptr() as usize).checked_sub(document.as_ptr() as usize)?;
    let before = document.get(..offset)?;
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
    Some((line as u64, column as u64))
}

/// Reads the value at the end of a path as a `T`.
struct Seek<'p, T> {
    path: &'p [Step],
    end: PhantomData<T>,
}

impl<'p, T> Seek<'p, T> {
    fn new(path: &'p [Step]) -> Self {
        Self { path, end: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Seek<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        match self.path.first() {
            None => T::deserialize(deserializer).map(Some),
            Some(Step::Key(_)) => deserializer.deserialize_map(self),
            Some(Step::Index(_)) => deserializer.deserialize_seq(self),
        }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Seek<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what was there before")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Option<T>, A::Error> {
        let mut found = None;
        while let Some(key) = entries.next_key::<String>()? {
            match self.path.split_first() {
                Some((Step::Key(wanted), rest)) if *wanted == key => {
                    found = entries.next_value_seed(Seek::new(rest))?;
                }
                _ => drop(entries.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<T>, A::Error> {
        let Some((Step::Index(wanted), rest)) = self.path.split_first() else { return Ok(None) };
        for _ in 0..*wanted {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = items.next_element_seed(Seek::new(rest))?.flatten();
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}
