// The shadow of a table: each row w rounded to int8, ŵ = s·q, and how far it is off (screen.wgsl).
//
// In: the table. Out: shadow, [ROWS][VECTORS] vectors of sixteen int8, zeros past COLS; bounds, [ROWS] of s, E ≥ ‖w − ŵ‖ and
// N ≥ ‖ŵ‖.
//
// With i = 127 / max|w|, q = round(w·i) and d = w·i − q: E = ‖d‖ / i and N = ‖q‖ / i, s = 1 / i, each with room for roundings,
// which are relative ones of at most 2⁻²⁰ but for sums, whose terms are positive: these are off by less than a thousandth.
//
// One workgroup for a row: grid (up to 32768, as many as it takes). Reads the table twice.
// Constants: those of the format's file, ROWS, VECTORS, THREADS.

@group(0) @binding(3) var<storage, read_write> shadow: array<u32>;
@group(0) @binding(4) var<storage, read_write> bounds: array<vec4<f32>>;

// Rows of hardly any size count as zeros.
const SMALLEST: f32 = 1e-30;
const ROOM: f32 = 1.001;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    // Past the last row, that row is rounded once more.
    let row = min(group.y * groups.x + group.x, ROWS - 1u);
    var largest = 0.0;
    for (var chunk = local; chunk < (COLS + 3u) / 4u; chunk += THREADS) {
        let size = abs(weight4(row, chunk));
        largest = max(largest, max(max(size.x, size.y), max(size.z, size.w)));
    }
    largest = workgroup_sum_max(vec2<f32>(0.0, largest), local).y;
    workgroupBarrier();
    let inverse = select(0.0, 127.0 / largest, largest > SMALLEST);
    var error = 0.0;
    var square = 0.0;
    for (var chunk = local; chunk < 4u * VECTORS; chunk += THREADS) {
        var q = vec4<f32>();
        if 4u * chunk < COLS {
            let w = weight4(row, chunk) * inverse;
            q = clamp(round(w), vec4<f32>(-127.0), vec4<f32>(127.0));
            error += dot(w - q, w - q);
            square += dot(q, q);
        }
        let bytes = bitcast<vec4<u32>>(vec4<i32>(q)) & vec4<u32>(0xffu);
        shadow[row * (4u * VECTORS) + chunk] = bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
    }
    error = sqrt(workgroup_sum_max(vec2<f32>(error, 0.0), local).x);
    workgroupBarrier();
    let norm = sqrt(workgroup_sum_max(vec2<f32>(square, 0.0), local).x);
    if local == 0u {
        if inverse == 0.0 {
            bounds[row] = vec4<f32>(0.0, sqrt(f32(COLS)) * SMALLEST * ROOM, 0.0, 0.0);
        } else {
            let off = error * ROOM + (error + norm) / f32(1u << 19u);
            bounds[row] = vec4<f32>(1.0 / inverse, off / inverse * ROOM, norm / inverse * ROOM, 0.0);
        }
    }
}
