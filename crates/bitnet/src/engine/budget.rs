//! Sharing a budget of tokens among prompts.

/// Divides `budget` among prompts of which so many tokens have yet to run: equal shares, and what a short prompt leaves of its share
/// goes to the longer ones. So a prompt of few tokens is read at once, however long the others are.
pub(super) fn share(budget: usize, prompts: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(|&index| prompts[index]);
    let mut shares = vec![0; prompts.len()];
    let mut left = budget;
    for (done, index) in order.into_iter().enumerate() {
        // Rounded up: of a budget smaller than the number of prompts, the shortest get a token each.
        let equal = left.div_ceil(prompts.len() - done);
        shares[index] = prompts[index].min(equal);
        left -= shares[index];
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_prompts_leave_their_share_to_long_ones() {
        assert_eq!(share(100, &[1000, 10, 20]), [70, 10, 20]);
        assert_eq!(share(100, &[1000, 1000]), [50, 50]);
        assert_eq!(share(2, &[9, 8, 7]), [0, 1, 1]);
        assert_eq!(share(64, &[]), [0; 0]);
    }

    proptest! {
        #[test]
        fn nothing_is_wasted_and_nothing_is_exceeded(
            budget in 0usize..500,
            prompts in proptest::collection::vec(0usize..300, 0..20),
        ) {
            let shares = share(budget, &prompts);
            prop_assert_eq!(shares.iter().sum::<usize>(), budget.min(prompts.iter().sum()));
            for (share, prompt) in shares.iter().zip(&prompts) {
                prop_assert!(share <= prompt);
            }
        }
    }
}
