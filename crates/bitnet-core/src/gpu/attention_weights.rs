//! How much each head attends to each position: computed by the host from the keys, once in a while, for people to look at.

use super::{GpuBackend, GpuHidden, GpuMixer, GpuState};
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
    state: &GpuState,
) -> Result<Vec<f32>> {
    let q = backend.queries(&mut x, mixer, layer, state)?;
    let mut recording = x.recording;
    let positions = recording.first + recording.tokens;
    recording.read(q.slot.buffer(), q.bytes);
    recording.read(&state.layer(layer)?, positions * state.position_bytes());
    let mut reads = recording.submit()?.into_iter().map(Pending::now);
    let mut next = || reads.next().unwrap_or_else(|| Ok(Vec::new()));
    let (q, keys) = (next()?, next()?);
    let q: Vec<f32> = bytemuck::pod_collect_to_vec(&q);
    let keys: Vec<f32> = if state.place.half {
        let halves: Vec<half::f16> = bytemuck::pod_collect_to_vec(&keys);
        halves.into_iter().map(half::f16::to_f32).collect()
    } else {
        bytemuck::pod_collect_to_vec(&keys)
    };
    let heads = state.heads;
    let Some(last) = q.chunks_exact(heads.query * heads.dim).next_back() else {
        return Err(Error::Shape {
            what: "queries".into(),
            expected: "at least one row".into(),
            found: "none".into(),
        });
    };
    // A head of keys is filled up to whole vectors.
    let stored = state.place.dim4() as usize * 4;
    let scale = 1.0 / (heads.dim as f32).sqrt();
    let mut weights = Vec::with_capacity(heads.query * positions);
    for (index, query) in last.chunks_exact(heads.dim).enumerate() {
        let head = index / (heads.query / heads.kv);
        let start = weights.len();
        let keys = keys.chunks_exact(stored).skip(head).step_by(heads.kv);
        weights.extend(keys.map(|key| {
            let products = query.iter().zip(key).map(|(q, k)| q * k);
            products.sum::<f32>() * scale
        }));
        softmax_in_place(&mut weights[start..]);
    }
    Ok(weights)
}
