// Sums and maxima over the LANES invocations that share a row, and over a whole workgroup, by subgroup operations.
//
// Only for devices where a subgroup is LANES neighbouring invocations (probe.wgsl looks). All invocations of a
// workgroup must call these together. The workgroup-wide ones hold one barrier: what was written to workgroup memory
// before is seen after.
//
// Constants: THREADS (invocations of a workgroup), LANES.

const TEAMS: u32 = THREADS / LANES;

var<workgroup> team_floats: array<vec2<f32>, TEAMS>;
var<workgroup> team_integers: array<i32, TEAMS>;

fn lanes_sum_i32(value: i32, local: u32) -> i32 {
    return subgroupAdd(value);
}

fn lanes_sum_vec4(value: vec4<f32>, local: u32) -> vec4<f32> {
    return vec4<f32>(subgroupAdd(value.x), subgroupAdd(value.y), subgroupAdd(value.z), subgroupAdd(value.w));
}

// The sum of all x and the maximum of all y. Between two calls there must be a barrier.
fn workgroup_sum_max(value: vec2<f32>, local: u32) -> vec2<f32> {
    let sum = subgroupAdd(value.x);
    let most = subgroupMax(value.y);
    if local % LANES == 0u {
        team_floats[local / LANES] = vec2<f32>(sum, most);
    }
    workgroupBarrier();
    var total = vec2<f32>(0.0, team_floats[0].y);
    for (var i = local % LANES; i < TEAMS; i += LANES) {
        let next = team_floats[i];
        total = vec2<f32>(total.x + next.x, max(total.y, next.y));
    }
    return vec2<f32>(subgroupAdd(total.x), subgroupMax(total.y));
}

fn workgroup_sum_i32(value: i32, local: u32) -> i32 {
    let sum = subgroupAdd(value);
    if local % LANES == 0u {
        team_integers[local / LANES] = sum;
    }
    workgroupBarrier();
    var total = 0;
    for (var i = local % LANES; i < TEAMS; i += LANES) {
        total += team_integers[i];
    }
    return subgroupAdd(total);
}
