// The likeliest of each SPAN candidates. Repeated until one workgroup is left.
//
// Out: [ROWS, workgroups] pairs of key and id. Grid (⌈COUNT / SPAN⌉, ROWS). Reads 4 or 8 bytes a candidate.
// Constants: COUNT, SPAN. A workgroup has 256 invocations.

@group(0) @binding(1) var<storage, read_write> kept: array<vec2<u32>>;

var<workgroup> best: array<vec2<u32>, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    var own = NOBODY;
    for (var i = local; i < SPAN; i += 256u) {
        let next = candidate(group.y, group.x * SPAN + i);
        if before(next, own) {
            own = next;
        }
    }
    best[local] = own;
    workgroupBarrier();
    for (var stride = 128u; stride > 0u; stride /= 2u) {
        if local < stride && before(best[local + stride], best[local]) {
            best[local] = best[local + stride];
        }
        workgroupBarrier();
    }
    if local == 0u {
        kept[group.y * groups.x + group.x] = best[0];
    }
}
