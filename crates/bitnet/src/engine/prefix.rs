//! Keys and values of texts so far, found by the tokens that they belong to.
//!
//! A tree of blocks of 64 tokens: a node holds a fork of the sequence that ran its block and all blocks above it, so that it shares
//! their memory and adds one block. Tokens are compared, not only their hashes. Blocks that no running text uses go when room is
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
    /// Nodes with pins.
    pinned: usize,
    uses: u64,
}

/// A place in the tree that a running text holds on to.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// None at the root.
    node: Option<NodeId>,
    /// Blocks from the root.
    depth: usize,
    /// Whether blocks behind it are another text's as well, which the tree already has from that one.
    twin: bool,
}

impl Place {
    /// Blocks that the text shares with the tree.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }
}

impl PrefixIndex {
    /// Blocks that the tree holds.
    pub(super) fn blocks(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Blocks that would go if they all had to.
    pub(super) fn idle_blocks(&self) -> usize {
        self.blocks() - self.pinned
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
        let place = Place {
            node,
            depth,
            twin: false,
        };
        Ok((sequence, place))
    }

    /// Takes the whole blocks of a text into the tree, of which `sequence` has run; moves the place along.
    ///
    /// # Errors
    /// If memory is short.
    pub(super) fn extend(
        &mut self,
        place: &mut Place,
        tokens: &[u32],
        sequence: &dyn DynSequence,
    ) -> Result<()> {
        for block in tokens.chunks_exact(BLOCK).skip(place.depth) {
            if place.twin {
                break;
            }
            let key = (place.node, Box::from(block));
            if self.children.contains_key(&key) {
                place.twin = true;
                break;
            }
            let fork = sequence.fork((place.depth + 1) * BLOCK)?;
            let id = self.add(place.node, key.1, fork);
            self.unpin(place.node);
            self.pin(Some(id));
            (place.node, place.depth) = (Some(id), place.depth + 1);
        }
        Ok(())
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
        sequence: Box<dyn DynSequence>,
    ) -> NodeId {
        let node = Node {
            parent,
            tokens: tokens.clone(),
            sequence,
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
            self.idle.remove(&before);
            self.pinned += usize::from(first);
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
            let last = node.pins == 0;
            next = node.parent;
            self.pinned -= usize::from(last);
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
