// gate(g) · u. Constant: SILU (1: g / (1 + e⁻ᵍ); 0: max(g, 0)²).

inline float4 gated4(float4 g, float4 u) {
    if (SILU == 1u) {
        return g / (1.0f + exp(-g)) * u;
    }
    const float4 positive = max(g, float4(0.0f));
    return positive * positive * u;
}
