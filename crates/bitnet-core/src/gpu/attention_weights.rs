//! How much each head attends to each position: computed by the host from the keys, once in a while, for people to look at.

use super::blocks::BLOCK;
use super::{GpuBackend, GpuHidden, GpuMixer, GpuState, REFUSED_BY};
use crate::batch::Batch;
use crate::simd::softmax_in_place;
use crate::{Error, Pending, Result};

/// The weights of a batch's last row in `layer`, `[query heads, positions]`: softmax(q·k / √dim).
///
/// # Errors
/// As [`Backend::mixer`](crate::Backend::mixer); [`Error::Unavailable`] in a browser, which cannot wait.
pub(super) fn of_last(
    backend: &GpuBackend,
    mut x: GpuHidden,
    mixer: &GpuMixer,
    layer: usize,
    batch: &mut Batch<'_, GpuState>,
) -> Result<Vec<f32>> {
    let state = &*batch.single(REFUSED_BY)?.state;
    let positions = x.spans.end;
    let (heads, place) = (state.heads, state.place);
    // The keys of a block lie together, and are brought together.
    let key_bytes = BLOCK * state.position_bytes();
    let blocks: Vec<u32> = state.blocks.iter().map(|block| block.index).collect();
    let q = backend.queries(&mut x, mixer, layer, batch)?;
    let slab = x.spans.slab.clone();
    let mut recording = x.recording;
    let keys = recording.slot(blocks.len() * key_bytes)?;
    if let Some(slab) = &slab {
        for (at, block) in blocks.iter().enumerate() {
            let from = *block as usize * 2 * key_bytes;
            let to = (keys.buffer(), at * key_bytes);
            recording.copy((slab.layer(layer)?, from), to, key_bytes);
        }
    }
    recording.read(q.slot.buffer(), q.bytes);
    recording.read(keys.buffer(), blocks.len() * key_bytes);
    let mut reads = recording.submit()?.into_iter().map(Pending::now);
    let mut next = || reads.next().unwrap_or_else(|| Ok(Vec::new()));
    let (q, keys) = (next()?, next()?);
    let q: Vec<f32> = bytemuck::pod_collect_to_vec(&q);
    let keys: Vec<f32> = if place.half {
        let halves: Vec<half::f16> = bytemuck::pod_collect_to_vec(&keys);
        halves.into_iter().map(half::f16::to_f32).collect()
    } else {
        bytemuck::pod_collect_to_vec(&keys)
    };
    let Some(last) = q.chunks_exact(heads.query * heads.dim).next_back() else {
        return Err(Error::Shape {
            what: "queries".into(),
            expected: "at least one row".into(),
            found: "none".into(),
        });
    };
    // A head of keys is filled up to whole vectors.
    let stored = place.dim4() as usize * 4;
    let scale = 1.0 / (heads.dim as f32).sqrt();
    let mut weights = Vec::with_capacity(heads.query * positions);
    for (index, query) in last.chunks_exact(heads.dim).enumerate() {
        let head = index / (heads.query / heads.kv);
        let start = weights.len();
        let keys = keys.chunks_exact(stored).skip(head).step_by(heads.kv);
        let keys = keys.take(positions);
        weights.extend(keys.map(|key| {
            let products = query.iter().zip(key).map(|(q, k)| q * k);
            products.sum::<f32>() * scale
        }));
        softmax_in_place(&mut weights[start..]);
    }
    Ok(weights)
}
