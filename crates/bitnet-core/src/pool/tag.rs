//! What a block is for, so that a report can say where memory went.

/// The purpose of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tag {
    /// Rows between the steps of a forward pass.
    Activation,
    /// Room for the time of one operation.
    Scratch,
    /// Keys and values of a session.
    KvCache,
    /// Elements of a tensor.
    Tensor,
    /// Weights that do not lie in a mapped file.
    Weights,
    /// Anything else.
    Other,
}

impl Tag {
    /// Every tag, in the order of reports.
    pub const ALL: [Self; 6] = [
        Self::Activation,
        Self::Scratch,
        Self::KvCache,
        Self::Tensor,
        Self::Weights,
        Self::Other,
    ];

    /// Its place in [`ALL`](Self::ALL).
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// Its name in reports and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Activation => "activations",
            Self::Scratch => "scratch",
            Self::KvCache => "KV cache",
            Self::Tensor => "tensors",
            Self::Weights => "weights",
            Self::Other => "other",
        }
    }
}

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_lies_where_its_index_says() {
        for (index, tag) in Tag::ALL.into_iter().enumerate() {
            assert_eq!(tag.index(), index);
        }
    }
}
