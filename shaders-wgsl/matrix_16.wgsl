// Matrices of 16 × 16 that a subgroup multiplies as one: halves, whose products are added up as floats.

const SIDE: u32 = 16u;

alias Rows = coop_mat16x16<f16, A>;
alias Columns = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;
