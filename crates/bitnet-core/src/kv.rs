//! The type in which keys and values are stored.

use crate::{Error, Result};

/// The type in which a state keeps keys and values. They are rounded once, when they are appended, half to even; each type
/// has bits of its own, equal on every CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KvType {
    /// IEEE binary16.
    F16,
    /// IEEE binary32: nothing is rounded.
    F32,
    /// −127 to 127, with a scale for each head and position, of keys and of values.
    Int8,
}

impl KvType {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::F16, Self::F32, Self::Int8];

    /// Its name, which [`FromStr`](std::str::FromStr) reads.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::Int8 => "int8",
        }
    }

    /// Bytes that the key of a head takes, or its value, of so many numbers.
    pub const fn bytes(self, numbers: usize) -> usize {
        match self {
            Self::F16 => numbers.saturating_mul(size_of::<half::f16>()),
            Self::F32 => numbers.saturating_mul(size_of::<f32>()),
            Self::Int8 => numbers.saturating_add(size_of::<f32>()),
        }
    }

    /// The type that was asked for, if it is one of those that a backend has, or else the first of these if none was.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the backend, which `name` calls, has other types.
    pub fn choose(asked: Option<Self>, types: &[Self], name: &str) -> Result<Self> {
        let found = match asked {
            Some(asked) => types.iter().find(|known| **known == asked),
            None => types.first(),
        };
        found.copied().ok_or_else(|| {
            let types: Vec<_> = types.iter().map(|known| known.name()).collect();
            Error::Unavailable {
                what: match asked {
                    Some(asked) => format!("a state with keys and values of type {asked}"),
                    None => "a state with keys and values".into(),
                },
                why: format!("{name} keeps them as {}", types.join(" or ")),
            }
        })
    }
}

impl std::fmt::Display for KvType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for KvType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|known| known.name() == name);
        found.ok_or_else(|| Error::Value {
            what: "the type of keys and values".into(),
            expected: Self::ALL.map(Self::name).join(", "),
            found: format!("{name:?}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_has_the_type_or_says_which_it_has() {
        let types = [KvType::F32, KvType::F16];
        let choose = |asked| KvType::choose(asked, &types, "this one");
        assert_eq!(choose(None).unwrap(), KvType::F32);
        assert_eq!(choose(Some(KvType::F16)).unwrap(), KvType::F16);
        let error = choose(Some(KvType::Int8)).unwrap_err().to_string();
        assert_eq!(
            error,
            "a state with keys and values of type int8 is not available: this one keeps them as f32 or f16"
        );
    }

    #[test]
    fn names_are_read_back() {
        for kv in KvType::ALL {
            assert_eq!(kv.name().parse::<KvType>().unwrap(), kv);
        }
        let error = "f64".parse::<KvType>().unwrap_err().to_string();
        assert!(error.contains("expected f16, f32, int8, found \"f64\""));
    }
}
