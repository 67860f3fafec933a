// The shadow of a table: each row w rounded to int8, ŵ = s·q, and how far it is off (screen.metal).
//
// In: the table. Out: shadow, [ROWS][VECTORS] vectors of sixteen int8, zeros past COLS; bounds, [ROWS] of s, E ≥ ‖w − ŵ‖ and
// N ≥ ‖ŵ‖.
//
// With i = 127 / max|w|, q = round(w·i) and d = w·i − q: E = ‖d‖ / i and N = ‖q‖ / i, s = 1 / i, each with room for roundings,
// which are relative ones of at most 2⁻²⁰ but for sums, whose terms are positive: these are off by less than a thousandth.
//
// One threadgroup for a row: grid (up to 32768, as many as it takes). Reads the table twice.
// Constants: those of the format's file, ROWS, VECTORS, THREADS.

// Rows of hardly any size count as zeros.
#define SMALLEST 1e-30f
#define ROOM 1.001f

kernel void shadow(
    device const uint* table [[buffer(2)]],
    device char4* codes [[buffer(3)]],
    device float4* bounds [[buffer(4)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint3 groups [[threadgroups_per_grid]],
    uint local [[thread_index_in_threadgroup]])
{
    threadgroup float2 largest_room[TEAMS];
    threadgroup float2 error_room[TEAMS];
    threadgroup float2 square_room[TEAMS];
    // Past the last row, that row is rounded once more.
    const uint row = min(group.y * groups.x + group.x, ROWS - 1u);
    float largest = 0.0f;
    for (uint chunk = local; chunk < (COLS + 3u) / 4u; chunk += THREADS) {
        const float4 size = abs(weight4(table, row, chunk));
        largest = max(largest, max(max(size.x, size.y), max(size.z, size.w)));
    }
    largest = threadgroup_sum_max(float2(0.0f, largest), local, largest_room).y;
    const float inverse = largest > SMALLEST ? 127.0f / largest : 0.0f;
    float error = 0.0f;
    float square = 0.0f;
    for (uint chunk = local; chunk < 4u * VECTORS; chunk += THREADS) {
        float4 q = float4(0.0f);
        if (4u * chunk < COLS) {
            const float4 w = weight4(table, row, chunk) * inverse;
            q = clamp(rint(w), float4(-127.0f), float4(127.0f));
            error += dot(w - q, w - q);
            square += dot(q, q);
        }
        codes[row * (4u * VECTORS) + chunk] = char4(q);
    }
    error = sqrt(threadgroup_sum_max(float2(error, 0.0f), local, error_room).x);
    const float norm = sqrt(threadgroup_sum_max(float2(square, 0.0f), local, square_room).x);
    if (local == 0u) {
        if (inverse == 0.0f) {
            bounds[row] = float4(0.0f, sqrt(float(COLS)) * SMALLEST * ROOM, 0.0f, 0.0f);
        } else {
            const float off = error * ROOM + (error + norm) / 524288.0f;
            bounds[row] = float4(1.0f / inverse, off / inverse * ROOM, norm / inverse * ROOM, 0.0f);
        }
    }
}
