// Matrices of 8 × 8 that a subgroup multiplies as one: halves, whose products are added up as floats.

const SIDE: u32 = 8u;

alias Rows = coop_mat8x8<f16, A>;
alias Columns = coop_mat8x8<f16, B>;
alias Sums = coop_mat8x8<f32, C>;
