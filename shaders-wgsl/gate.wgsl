// gate(g) · u. Constant: SILU (1: g / (1 + e⁻ᵍ); 0: max(g, 0)²).

fn gated4(g: vec4<f32>, u: vec4<f32>) -> vec4<f32> {
    if SILU == 1u {
        return g / (1.0 + exp(-g)) * u;
    }
    let positive = max(g, vec4<f32>());
    return positive * positive * u;
}
