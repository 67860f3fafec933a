//! How far the largest activations stand out before and behind a rotation, and what that makes of their rounding.

use super::exact::{Exact, SITES, Treatment, round};
use super::rotated::{rotate, signs};
use bitnet::Activations;
use bitnet_benchmarks::report::Table;

/// Sums over the rows of a site.
#[derive(Clone, Copy, Default)]
struct Sums {
    rows: usize,
    peak: f64,
    most: f64,
    /// Relative errors of the two roundings, squared.
    errors: [f64; 2],
}

impl Sums {
    fn add(&mut self, row: &[f32]) {
        let squares = |row: &[f32]| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
        let power = squares(row);
        if power == 0.0 {
            return;
        }
        let largest = row.iter().map(|x| f64::from(x.abs())).fold(0.0, f64::max);
        let peak = largest / (power / row.len() as f64).sqrt();
        self.rows += 1;
        self.peak += peak;
        self.most = self.most.max(peak);
        let roundings = [Activations::Int8, Activations::Int8Groups];
        for (error, rounding) in self.errors.iter_mut().zip(roundings) {
            let mut rounded = row.to_vec();
            round(&mut rounded, rounding);
            let difference: Vec<f32> = row.iter().zip(&rounded).map(|(a, b)| a - b).collect();
            *error += squares(&difference) / power;
        }
    }

    fn cells(&self) -> [String; 4] {
        let rows = self.rows.max(1) as f64;
        let [token, group] = self.errors.map(|error| (error / rows).sqrt());
        [
            format!("{:.2}", self.peak / rows),
            format!("{:.2}", self.most),
            format!("{:.3} %", 100.0 * token),
            format!("{:.3} %", 100.0 * group),
        ]
    }
}

/// The rows that the demo model's matrices multiply, in all its layers.
pub(crate) fn table(model: &Exact, tokens: &[u32]) -> Table {
    let mut sums = [[Sums::default(); 2]; SITES.len()];
    model.logits(tokens, Treatment::default(), &mut |site, row| {
        sums[site][0].add(row);
        let mut rotated = row.to_vec();
        rotate(&mut rotated, &signs(row.len()));
        sums[site][1].add(&rotated);
    });
    let mut table = Table::new(
        "Outliers before and behind the rotation",
        format!(
            "Rows that matrices of the demo model multiply, over {} tokens and all layers: largest magnitude over root mean square, and \
             the relative error (root mean square) of their rounding.",
            tokens.len()
        ),
        &[
            "rows of",
            "rotated",
            "max/rms, mean",
            "max/rms, most",
            "error per token",
            "error per group",
        ],
    );
    for (site, sums) in SITES.iter().zip(&sums) {
        for (sums, rotated) in sums.iter().zip(["no", "yes"]) {
            let cells = [(*site).to_owned(), rotated.to_owned()].into_iter();
            table.row(cells.chain(sums.cells()));
        }
    }
    table
}
