// The likeliest of each SPAN candidates. Repeated until one workgroup is left to do (likeliest.wgsl).
//
// Out: [ROWS, workgroups] pairs of key and id. Grid (⌈COUNT / SPAN⌉, ROWS). Reads 4 or 8 bytes a candidate.
// Constants: COUNT, SPAN, THREADS (a power of two).

@group(0) @binding(1) var<storage, read_write> kept: array<vec2<u32>>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    var own = NOBODY;
    for (var i = local; i < SPAN; i += THREADS) {
        let next = candidate(group.y, group.x * SPAN + i);
        if before(next, own) {
            own = next;
        }
    }
    own = likeliest_of_all(own, local);
    if local == 0u {
        kept[group.y * groups.x + group.x] = own;
    }
}
