// Causal attention of few tokens: softmax(q·kⱼ / √dim) over the positions up to the token's, then the values by these
// weights, in one pass with a running maximum and sum.
//
// A workgroup takes one head of queries of one token and a piece of the context. Its teams take positions in turn, BLOCK of them
// at a time together, each with a maximum and a sum of its own; the lanes of a team share the columns of a head. Keys and values
// are asked for before the queries are there, and come meanwhile. Lines behind `four` stand for the four positions that a team
// takes at a time, with @ for 0, 1, …; lines behind `own` for the vectors of columns of a lane, with # for 0, 1, ….
//
// The queries, keys and values: attend_turned.wgsl or attend_turning.wgsl. Out: pieces.wgsl.
//
// Grid (QUERY_HEADS, rows of the class, pieces). Reads 8·DIM bytes (f32) a position.
// Constants: QUERY_HEADS, KV_HEADS, DIM, DIM4, CLASS (of the rows: place.wgsl), FOURS (how many fours), THREADS, LANES.

@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> step: Step;

// The position of the token at hand.
var<private> own_position: u32;

const TEAMS_OF_POSITIONS: u32 = THREADS / LANES;
const BLOCK: u32 = 4u * FOURS * TEAMS_OF_POSITIONS;
const LOWEST: f32 = -3.4028234e38;

// The maximum and the sum of the weights of a team, and its sums of values.
var<workgroup> states: array<vec2<f32>, TEAMS_OF_POSITIONS>;
var<workgroup> sums: array<vec4<f32>, TEAMS_OF_POSITIONS * DIM4>;

// The positions of four number `four` of a team, those past the end too.
fn positions_of(base: u32, team: u32, four: u32) -> vec4<u32> {
    return base + team + TEAMS_OF_POSITIONS * (4u * four + vec4<u32>(0u, 1u, 2u, 3u));
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let head = group.x;
    let token = group.y + select(select(step.third, step.second, CLASS == 1u), 0u, CLASS == 0u);
    let kv_head = head / (QUERY_HEADS / KV_HEADS);
    let position = places[4u * token];
    own_position = position;
    blocks_at = places[4u * token + 1u];
    let piece_positions = places[4u * token + 2u];
    let positions = position + 1u;
    // A row of fewer pieces than others leaves empty ones, which weigh nothing.
    let begin = min(group.z * piece_positions, positions);
    let end = min(begin + piece_positions, positions);

    let lane = local % LANES;
    let team = local / LANES;
    // Past the last vector of columns that one stands in, against zeros.
//own     let column# = min(lane + #u * LANES, DIM4 - 1u);
    var most = LOWEST;
    var weight_sum = 0.0;
//own     var sum# = vec4<f32>();
    for (var base = begin; base < end; base += BLOCK) {
//four         let all@ = positions_of(base, team, @u);
        // Past the last position that one stands in, and weighs nothing.
//four         let at@ = min(all@, vec4<u32>(end - 1u));
//four //own         let kx@_# = cached(0u, at@.x, kv_head, column#);
//four //own         let ky@_# = cached(0u, at@.y, kv_head, column#);
//four //own         let kz@_# = cached(0u, at@.z, kv_head, column#);
//four //own         let kw@_# = cached(0u, at@.w, kv_head, column#);
//four //own         let vx@_# = value_at(token, at@.x, kv_head, column#);
//four //own         let vy@_# = value_at(token, at@.y, kv_head, column#);
//four //own         let vz@_# = value_at(token, at@.z, kv_head, column#);
//four //own         let vw@_# = value_at(token, at@.w, kv_head, column#);
        if base == begin {
            prepare(token, head, kv_head, local, begin, end);
        }
//four         var score@ = vec4<f32>();
//own         let q# = query_at(lane + #u * LANES);
//own //four         score@ += vec4<f32>(dot(q#, key_at(at@.x, kx@_#, column#)), dot(q#, key_at(at@.y, ky@_#, column#)), dot(q#, key_at(at@.z, kz@_#, column#)), dot(q#, key_at(at@.w, kw@_#, column#)));
//four         score@ = select(vec4<f32>(LOWEST), lanes_sum_vec4(score@, local), all@ < vec4<u32>(end));
        var highest = most;
//four         highest = max(highest, max(max(score@.x, score@.y), max(score@.z, score@.w)));
        let shrink = exp(most - highest);
        most = highest;
//four         let weight@ = select(vec4<f32>(), exp(score@ - highest), all@ < vec4<u32>(end));
        weight_sum *= shrink;
//four         weight_sum += weight@.x + weight@.y + weight@.z + weight@.w;
//own         sum# *= shrink;
//four //own         sum# += weight@.x * vx@_# + weight@.y * vy@_# + weight@.z * vz@_# + weight@.w * vw@_#;
    }
    if lane == 0u {
        states[team] = vec2<f32>(most, weight_sum);
    }
//own     if lane + #u * LANES < DIM4 { sums[team * DIM4 + column#] = sum#; }
    workgroupBarrier();
    let piece = ((token * QUERY_HEADS + head) * groups.z + group.z) * (DIM4 + 1u);
    for (var column = local; column < DIM4 + 1u; column += THREADS) {
        var highest = states[0].x;
        for (var i = 1u; i < TEAMS_OF_POSITIONS; i++) {
            highest = max(highest, states[i].x);
        }
        var all = vec4<f32>();
        var weight = 0.0;
        for (var i = 0u; i < TEAMS_OF_POSITIONS; i++) {
            let shrink = exp(states[i].x - highest);
            all += sums[i * DIM4 + min(column, DIM4 - 1u)] * shrink;
            weight += states[i].y * shrink;
        }
        out[piece + column] = select(all, vec4<f32>(highest, weight, 0.0, 0.0), column == DIM4);
    }
}
