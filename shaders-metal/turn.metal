// Heads of queries and keys normed (if NORM) and turned, into threadgroup memory.
//
// Pairs (i, i + HALF) turn together, or (2i, 2i + 1) if INTERLEAVED; columns from 2·HALF on stay. turns: cos and sin of
// [positions][HALF], from position 0.
//
// Constants: DIM, DIM4, HALF, INTERLEAVED, NORM, LANES.

// A head as it was projected, and how it is normed.
struct Head {
    device const float* numbers;
    device const float* gain;
    // Added to the mean square.
    float eps;
};

// A number of a head, normed.
inline float normed_at(Head head, uint i, float inverse) {
    return NORM == 1u ? head.numbers[i] * inverse * head.gain[i] : head.numbers[i];
}

// Fills `turned`, 4·DIM4 numbers with zeros past DIM, by `count` threads, of which this is number `index`. All lanes of a
// simdgroup together: each simdgroup adds up the squares for itself.
inline void turn_head(
    threadgroup float* turned,
    Head head,
    device const float2* turns,
    uint position,
    uint index,
    uint count)
{
    float inverse = 1.0f;
    if (NORM == 1u) {
        float square = 0.0f;
        for (uint i = index % LANES; i < DIM; i += LANES) {
            square += head.numbers[i] * head.numbers[i];
        }
        inverse = 1.0f / sqrt(simd_sum(square) / float(DIM) + head.eps);
    }
    for (uint i = index; i < HALF; i += count) {
        const uint a = INTERLEAVED == 1u ? 2u * i : i;
        const uint b = INTERLEAVED == 1u ? 2u * i + 1u : i + HALF;
        const float2 turn = turns[position * HALF + i];
        const float low = normed_at(head, a, inverse);
        const float high = normed_at(head, b, inverse);
        turned[a] = low * turn.x - high * turn.y;
        turned[b] = low * turn.y + high * turn.x;
    }
    for (uint i = 2u * HALF + index; i < 4u * DIM4; i += count) {
        turned[i] = i < DIM ? normed_at(head, i, inverse) : 0.0f;
    }
}

// Four columns of a row of DIM numbers, zeros past the last.
inline float4 head4(device const float* row, uint chunk) {
    float4 four = float4(0.0f);
    for (uint c = 0u; c < 4u; c++) {
        if (4u * chunk + c < DIM) {
            four[c] = row[4u * chunk + c];
        }
    }
    return four;
}
