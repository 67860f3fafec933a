//! The function that the MLX backend makes a kernel of on a Mac, run as Metal's other kernels are.
//!
//! This needs clang: `cargo xtask test --metal` runs it.

use super::tests::answer;
use super::*;

/// The function that MLX makes a kernel of, in one that calls it as that does.
const OF_MLX: &str = "
kernel void mlx_ternary(
    device const float* x [[buffer(0)]],
    device const uint* codes [[buffer(1)]],
    device const float* scales [[buffer(2)]],
    device float* out [[buffer(3)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    const uint first = TERNARY_ROWS * (2u * group.x + local / 32u);
    const uint token = group.y;
    ternary_rows<GROUP>(x + token * COLUMNS, codes, scales, out + token * ROWS, COLUMNS, ROWS, first, local % 32u);
}
";

/// Whole numbers times codes are exact, with one scale and with one for each 128 or 64 columns, over the edges of every step.
#[test]
#[ignore = "needs clang: cargo xtask test --metal"]
fn the_ternary_product_for_mlx_is_exact() {
    let function = include_str!("../../../../../shaders-metal/mlx_ternary.metal");
    for (tokens, rows, columns, group) in [
        (1, 1, 128, 0),
        (1, 5, 64, 4),
        (3, 33, 640, 8),
        (2, 70, 1088, 4),
        (8, 9, 2560, 0),
    ] {
        let words = columns / 16;
        let constants =
            format!("#define GROUP {group}\n#define COLUMNS {columns}\n#define ROWS {rows}\n");
        let source = Source {
            name: "mlx_ternary",
            text: format!("{function}\n{constants}{OF_MLX}"),
            bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
            threads: 64,
        };
        let x: Vec<f32> = (0..tokens * columns)
            .map(|i| 127.0 - (i * i % 255) as f32)
            .collect();
        // Codes 0, 1 and 2.
        let codes: Vec<u32> = (0..rows * words)
            .map(|i: usize| {
                let bits = (i as u32).wrapping_mul(0x9e37_79b1);
                bits & !((bits & (bits >> 1)) & 0x5555_5555)
            })
            .collect();
        let groups = words.checked_div(group).unwrap_or(1);
        let scales: Vec<f32> = (0..rows * groups)
            .map(|i| 0.25 * (1 + i % 7) as f32)
            .collect();
        let buffers = [
            bytemuck::cast_slice(&x).to_vec(),
            bytemuck::cast_slice(&codes).to_vec(),
            bytemuck::cast_slice(&scales).to_vec(),
            vec![0xff; 4 * tokens * rows],
        ];
        let pairs = (rows as u32).div_ceil(8);
        let found = answer(&source, &buffers, &[0, 1, 2, 3], [pairs, tokens as u32, 1]);
        let product = |token: usize, row: usize| -> f32 {
            let weight = |column: usize| {
                let word = codes[row * words + column / 16];
                let code = (word >> (2 * (column % 16)) & 3) as f32 - 1.0;
                match (column / 16).checked_div(group) {
                    Some(place) => code * scales[row * groups + place],
                    None => code,
                }
            };
            (0..columns)
                .map(|c| weight(c) * x[token * columns + c])
                .sum()
        };
        let expected: Vec<f32> = (0..tokens * rows)
            .map(|i| product(i / rows, i % rows))
            .collect();
        assert_eq!(
            found.expect("products"),
            expected,
            "{tokens}×{rows}×{columns}, {group}"
        );
    }
}
