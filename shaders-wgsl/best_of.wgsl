// The likeliest of a workgroup's candidates. Constants: THREADS. Needs the order of top_key.wgsl.

var<workgroup> best: array<vec2<u32>, THREADS>;

// All invocations together; the first one's answer counts.
fn likeliest_of_all(own: vec2<u32>, local: u32) -> vec2<u32> {
    best[local] = own;
    workgroupBarrier();
    for (var stride = THREADS / 2u; stride > 0u; stride /= 2u) {
        if local < stride && before(best[local + stride], best[local]) {
            best[local] = best[local + stride];
        }
        workgroupBarrier();
    }
    return best[0];
}
