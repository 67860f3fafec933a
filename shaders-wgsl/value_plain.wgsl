// The row to be rounded is the row of x.

fn value4(token: u32, chunk: u32) -> vec4<f32> {
    return x4(token, chunk);
}
