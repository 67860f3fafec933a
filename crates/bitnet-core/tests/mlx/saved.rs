//! What a session has read, handed out and taken over.

use super::MLX;
use crate::parity::harness::*;
use bitnet_core::{Backend, Heads, Rope, RopePairs};

const HEADS: Heads = Heads {
    query: 4,
    kv: 2,
    dim: 6,
};

#[test]
fn rows_come_out_as_they_went_in_and_as_the_cpu_has_them() {
    let cpu = cpu();
    let stride = HEADS.kv * HEADS.dim;
    let mut mlx_cache = MLX.cache(2, HEADS, 700).expect("a cache");
    let mut cpu_cache = cpu.cache(2, HEADS, 700).expect("a cache");
    assert_eq!(MLX.cache_bytes(&mlx_cache), 0);
    let mut numbers = Numbers(71);
    // Over the edges of the room there is.
    for positions in [1, 15, 240, 1, 300, 2] {
        let [keys, values] = [(); 2].map(|()| numbers.floats(positions * stride));
        MLX.restore_layer(&mut mlx_cache, 1, &keys, &values)
            .expect("appended");
        cpu.restore_layer(&mut cpu_cache, 1, &keys, &values)
            .expect("appended");
    }
    let expected = cpu.read_layer(&cpu_cache, 1).expect("rows");
    assert_eq!(MLX.read_layer(&mlx_cache, 1).expect("rows"), expected);
    assert!(MLX.cache_bytes(&mlx_cache) >= 2 * 559 * stride * 4);
    let nothing = MLX.read_layer(&mlx_cache, 0).expect("nothing");
    assert!(nothing.iter().all(Vec::is_empty));
    MLX.truncate(&mut mlx_cache, 37);
    let [keys, _] = MLX.read_layer(&mlx_cache, 1).expect("rows");
    assert_eq!(keys, expected[0][..37 * stride]);
    let more = numbers.floats(stride);
    MLX.restore_layer(&mut mlx_cache, 1, &more, &more)
        .expect("appended");
    let [keys, _] = MLX.read_layer(&mlx_cache, 1).expect("rows");
    assert_eq!(keys[37 * stride..], more);
    MLX.truncate(&mut mlx_cache, 0);
    assert_eq!(MLX.cache_bytes(&mlx_cache), 0);
    for bad in [(&more[..], &more[1..]), (&more[1..], &more[1..])] {
        assert!(MLX.restore_layer(&mut mlx_cache, 0, bad.0, bad.1).is_err());
    }
    let many = vec![0.0; 701 * stride];
    let error = MLX.restore_layer(&mut mlx_cache, 0, &many, &many);
    let error = error.expect_err("too many").to_string();
    assert!(error.contains("at most 700"), "{error}");
}

/// What a token at position 4000 attends to. MLX multiplies position and frequency in f32: the angle of the first pair is off by
/// up to 2·10⁻⁴.
#[test]
fn far_positions_keep_their_angle() {
    const FAR: usize = 4000;
    let heads = Heads {
        query: 4,
        kv: 2,
        dim: 64,
    };
    let rope = Rope {
        pairs: RopePairs::HalfSplit,
        dims: 64,
        base: 500_000.0,
        divisors: Vec::new(),
        magnitude: 1.0,
    };
    let mut numbers = Numbers(72);
    let widths = [4, 2, 2].map(|count| count * heads.dim);
    let cols = widths.iter().sum();
    let before = [(); 2].map(|()| numbers.floats(FAR * heads.kv * heads.dim));
    let x: Vec<f32> = numbers.floats(cols).iter().map(|x| 4.0 * x).collect();
    let found = attended(&*MLX, heads, &rope, widths, &before, &x);
    let expected = attended(&cpu(), heads, &rope, widths, &before, &x);
    assert_close(&found, &expected, 1e-3, "position 4000");
}

fn attended<B: Look>(
    backend: &B,
    heads: Heads,
    rope: &Rope,
    widths: [usize; 3],
    [keys, values]: &[Vec<f32>; 2],
    x: &[f32],
) -> Vec<f32> {
    let far = keys.len() / (heads.kv * heads.dim);
    let mut cache = backend.cache(1, heads, far + 1).expect("a cache");
    backend
        .restore_layer(&mut cache, 0, keys, values)
        .expect("restored");
    let rows = alone(backend, x, x.len());
    let parts = columns(backend, &rows, x.len(), &widths);
    let [mut q, k, v]: [B::Hidden; 3] = parts.try_into().ok().expect("three");
    let rotations = backend.rotations(rope, far, 1).expect("rotations");
    backend
        .rope_append(&mut q, k, v, None, &rotations, &mut cache, 0)
        .expect("appended");
    backend.look(backend.attention(&q, &cache, 0).expect("attention"))
}
