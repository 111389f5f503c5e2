//! Figures that come in pairs, and how sure they are.

/// The median of some figures, and bounds that hold it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    f64::midpoint(values[middle], values[values.len() - 1 - middle])
}

/// Bounds that hold the true median with 95 % at least, whatever the figures' distribution is: those of the sign test. Few figures have
/// no such bounds; then all of them are taken.
pub(crate) fn estimate(values: &[f64]) -> Estimate {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let beyond = beyond(sorted.len());
    Estimate { least: sorted[beyond], median: median(values), most: sorted[sorted.len() - 1 - beyond] }
}

/// How many of `count` figures lie beyond either bound: as many as coins of which so few show heads with at most 2.5 %.
fn beyond(count: usize) -> usize {
    let mut chance = 0.5_f64.powi(i32::try_from(count).unwrap());
    let (mut sum, mut heads) = (chance, 0);
    while sum <= 0.025 {
        heads += 1;
        chance *= (count - heads + 1) as f64 / heads as f64;
        sum += chance;
    }
    heads.saturating_sub(1)
}

#[test]
fn bounds_are_those_of_the_sign_test() {
    // Tables of the sign test give the ranks 1 of 6, 2 of 10, 6 of 20, 14 of 40.
    assert_eq!([6, 10, 20, 40].map(|count| beyond(count) + 1), [1, 2, 6, 14]);
    let values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
    assert_eq!(estimate(&values), Estimate { least: 6.0, median: 10.5, most: 15.0 });
    assert_eq!(estimate(&[2.0]), Estimate { least: 2.0, median: 2.0, most: 2.0 });
}
