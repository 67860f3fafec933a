//! Keys and values of texts so far, found by the tokens that they belong to.
//!
//! A tree of blocks of 64 tokens: a node holds a fork of the sequence that ran its block and all blocks above it, so that it shares
//! their memory and adds one block, and the states of recurrent layers if they are kept there. Tokens are compared, not only their hashes. Blocks that no running text uses go when room is
//! needed, the one that was used least recently first; blocks go before those above them.

use super::BLOCK;
use crate::Result;
use crate::model::DynSequence;
use std::collections::{BTreeSet, HashMap};

/// A node of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NodeId(usize);

struct Node {
    parent: Option<NodeId>,
    tokens: Box<[u32]>,
    /// A sequence of the blocks up to this one.
    sequence: Box<dyn DynSequence>,
    /// Bytes that it holds beyond those of its parent.
    bytes: usize,
    children: usize,
    /// Running texts that use it.
    pins: usize,
    last_use: u64,
}

/// The tree.
#[derive(Default)]
pub(super) struct PrefixIndex {
    nodes: Vec<Option<Node>>,
    free: Vec<usize>,
    children: HashMap<(Option<NodeId>, Box<[u32]>), NodeId>,
    /// Nodes that may go, by their last use.
    idle: BTreeSet<(u64, NodeId)>,
    /// Bytes of all nodes.
    bytes: usize,
    /// Bytes of nodes with pins.
    pinned_bytes: usize,
    uses: u64,
}

/// A place in the tree that a running text holds on to.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// None at the root.
    node: Option<NodeId>,
    /// Blocks from the root.
    depth: usize,
    /// Blocks from the root whose memory the text shares with the tree.
    shared: usize,
    /// Whether blocks behind it are not to be taken into the tree: it already has them from another text, or is short of room.
    closed: bool,
}

impl Place {
    /// Blocks whose memory the text shares with the tree.
    pub(super) fn shared(&self) -> usize {
        self.shared
    }

    /// Whether a text of `positions` has another whole block behind it that may be taken into the tree.
    pub(super) fn has_next(&self, positions: usize) -> bool {
        !self.closed && positions / BLOCK > self.depth
    }

    /// The root, for a text whose blocks are not to be taken into the tree.
    pub(super) fn closed() -> Self {
        Self {
            closed: true,
            ..Self::default()
        }
    }
}

impl PrefixIndex {
    /// Bytes that the tree holds.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of those that no running text uses.
    pub(super) fn idle_bytes(&self) -> usize {
        self.bytes - self.pinned_bytes
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0)?.as_ref()
    }

    fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id.0)?.as_mut()
    }

    /// The deepest node for whole blocks at the beginning of `tokens`, and its depth.
    fn find(&self, tokens: &[u32]) -> (Option<NodeId>, usize) {
        let (mut node, mut depth) = (None, 0);
        for block in tokens.chunks_exact(BLOCK) {
            // A key for the look-up needs the block as it is stored.
            match self.children.get(&(node, Box::from(block))) {
                Some(&next) => (node, depth) = (Some(next), depth + 1),
                None => break,
            }
        }
        (node, depth)
    }

    /// Blocks at the beginning of `tokens` that the tree has.
    pub(super) fn depth_of(&self, tokens: &[u32]) -> usize {
        self.find(tokens).1
    }

    /// A sequence of the blocks at the beginning of `tokens` that the tree has, and the place of the last; at the root there is
    /// none.
    ///
    /// # Errors
    /// If memory is short.
    pub(super) fn fork(&mut self, tokens: &[u32]) -> Result<(Option<Box<dyn DynSequence>>, Place)> {
        let (node, depth) = self.find(tokens);
        let sequence = match node.and_then(|id| self.node(id)) {
            Some(found) => Some(found.sequence.fork(depth * BLOCK)?),
            None => None,
        };
        self.pin(node);
        let kept = sequence.as_ref().map_or(0, |sequence| sequence.len());
        let place = Place {
            node,
            depth,
            shared: depth.min(kept / BLOCK),
            closed: false,
        };
        Ok((sequence, place))
    }

    /// Takes the next whole block of a text into the tree, of which `sequence` has run; moves the place along. A block for which
    /// `has_room` finds no room is left out: it is told the tree, the block's bytes, and how many blocks the text would share with the
    /// tree. Returns whether there may be more.
    ///
    /// # Errors
    /// If memory is short.
    pub(super) fn extend(
        &mut self,
        place: &mut Place,
        tokens: &[u32],
        sequence: &dyn DynSequence,
        has_room: impl FnOnce(&mut Self, usize, usize) -> bool,
    ) -> Result<bool> {
        if !place.has_next(tokens.len()) {
            return Ok(false);
        }
        let block = &tokens[place.depth * BLOCK..][..BLOCK];
        let key = (place.node, Box::from(block));
        if self.children.contains_key(&key) {
            place.closed = true;
            return Ok(false);
        }
        let fork = sequence.fork((place.depth + 1) * BLOCK)?;
        let parent = place.node.and_then(|parent| self.node(parent));
        let bytes = fork.bytes_beyond(parent.map_or(0, |parent| parent.sequence.len()));
        let shared = place.shared.max(fork.len() / BLOCK);
        if !has_room(self, bytes, shared) {
            return Ok(false);
        }
        let id = self.add(place.node, key.1, (fork, bytes));
        self.unpin(place.node);
        self.pin(Some(id));
        place.node = Some(id);
        place.depth += 1;
        place.shared = shared;
        Ok(true)
    }

    /// Bytes of the blocks from the root to a place.
    pub(super) fn bytes_up_to(&self, place: &Place) -> usize {
        let (mut bytes, mut next) = (0, place.node);
        while let Some(node) = next.and_then(|id| self.node(id)) {
            bytes += node.bytes;
            next = node.parent;
        }
        bytes
    }

    /// Lets go of a place.
    pub(super) fn release(&mut self, place: Place) {
        self.unpin(place.node);
    }

    /// Removes the block that was used least recently. Returns whether there was one that no text uses.
    pub(super) fn evict(&mut self) -> bool {
        let Some((_, id)) = self.idle.pop_first() else {
            return false;
        };
        let Some(node) = self.nodes.get_mut(id.0).and_then(Option::take) else {
            return false;
        };
        self.free.push(id.0);
        self.bytes -= node.bytes;
        self.children.remove(&(node.parent, node.tokens));
        if let Some(parent) = node.parent {
            if let Some(parent) = self.node_mut(parent) {
                parent.children -= 1;
            }
            self.note_idle(parent);
        }
        true
    }

    fn add(
        &mut self,
        parent: Option<NodeId>,
        tokens: Box<[u32]>,
        (sequence, bytes): (Box<dyn DynSequence>, usize),
    ) -> NodeId {
        self.bytes += bytes;
        let node = Node {
            parent,
            tokens: tokens.clone(),
            sequence,
            bytes,
            children: 0,
            pins: 0,
            last_use: self.uses,
        };
        let id = match self.free.pop() {
            Some(place) => {
                self.nodes[place] = Some(node);
                NodeId(place)
            }
            None => {
                self.nodes.push(Some(node));
                NodeId(self.nodes.len() - 1)
            }
        };
        self.children.insert((parent, tokens), id);
        if let Some(parent) = parent.and_then(|parent| self.node_mut(parent)) {
            parent.children += 1;
        }
        id
    }

    /// Adds a pin to a node and those above it.
    fn pin(&mut self, node: Option<NodeId>) {
        self.uses += 1;
        let (uses, mut next) = (self.uses, node);
        while let Some(id) = next {
            let Some(node) = self.node_mut(id) else {
                return;
            };
            let before = (node.last_use, id);
            let first = node.pins == 0;
            node.pins += 1;
            node.last_use = uses;
            next = node.parent;
            let bytes = node.bytes;
            self.idle.remove(&before);
            if first {
                self.pinned_bytes += bytes;
            }
        }
    }

    /// Takes a pin from a node and those above it.
    fn unpin(&mut self, node: Option<NodeId>) {
        let mut next = node;
        while let Some(id) = next {
            let Some(node) = self.node_mut(id) else {
                return;
            };
            node.pins -= 1;
            let (last, bytes) = (node.pins == 0, node.bytes);
            next = node.parent;
            if last {
                self.pinned_bytes -= bytes;
            }
            self.note_idle(id);
        }
    }

    /// Notes that a node may go, if it may.
    fn note_idle(&mut self, id: NodeId) {
        if let Some(node) = self.node(id)
            && node.pins == 0
            && node.children == 0
        {
            self.idle.insert((node.last_use, id));
        }
    }
}
