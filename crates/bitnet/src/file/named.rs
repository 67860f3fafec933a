//! Choices that are asked for by name.

/// An enum whose variants have names: `name`, `ALL`, `Display`, and `FromStr` with an error that lists them. The first
/// argument after its name is what errors call the choice.
macro_rules! named {
    ($(#[$doc:meta])* $kind:ident, $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub enum $kind { $($(#[$variant_doc])* $variant,)* }

        impl $kind {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name by which it is asked for.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $kind {
            type Err = $crate::Error;

            fn from_str(name: &str) -> $crate::Result<Self> {
                Self::ALL.iter().copied().find(|known| known.name() == name).ok_or_else(|| $crate::Error::Argument {
                    what: $what,
                    expected: [$($name),*].join(", "),
                    found: name.to_owned(),
                })
            }
        }
    };
}
