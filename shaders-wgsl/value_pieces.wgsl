// The row to be rounded is the attention of all heads, which comes in pieces (pieces.wgsl). Heads are whole vectors of four.
//
// Constants: STEP (the binding of step).

@group(0) @binding(STEP) var<uniform> step: Step;

fn value4(token: u32, chunk: u32) -> vec4<f32> {
    if 4u * chunk >= COLS {
        return vec4<f32>();
    }
    return together4(token, chunk / DIM4, chunk % DIM4);
}
