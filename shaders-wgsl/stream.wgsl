// What a device's memory gives: VECTORS vectors of four read once, neighbouring invocations neighbouring ones, and stored (if
// COPIES) or put together.
//
// Out: VECTORS vectors, or one for each invocation. Any grid (workgroups).
// Constants: VECTORS, COPIES (0 or 1), THREADS.

@group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<u32>>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let all = groups.x * THREADS;
    var together = vec4<u32>();
    for (var i = id.x; i < VECTORS; i += all) {
        if COPIES == 1u {
            out[i] = source[i];
        } else {
            together ^= source[i];
        }
    }
    if COPIES == 0u {
        out[id.x] = together;
    }
}
