//! A tournament tree of losers: the smallest of many keys, and the next smallest after `log2` comparisons. (Knuth, *The
//! Art of Computer Programming*, volume 3, 5.4.1.)

/// The key of a player that has none.
pub(super) const NONE: u64 = u64::MAX;

/// The smallest of the players' keys. Of equal keys, that of the first player.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    players: usize,
    /// At 0 the winner, then the loser of each match. Match `n` is between the winners of `2n` and `2n + 1`, where
    /// player `i` is `players + i`. Key and player are one number, so that a comparison needs no branch.
    nodes: Box<[u128]>,
    /// The winners of all matches, and all players: only while the tree is built.
    winners: Box<[u128]>,
}

#[inline(always)]
fn pack(key: u64, player: usize) -> u128 {
    u128::from(key) << 64 | player as u128
}

impl Tree {
    /// A tree of this many players without keys.
    pub(super) fn new(players: usize) -> Self {
        let nodes = vec![pack(NONE, 0); players.max(1)].into();
        Self { players, nodes, winners: vec![0; 2 * players].into() }
    }

    /// Plays all matches with new keys. Allocates nothing.
    pub(super) fn build(&mut self, key: impl Fn(usize) -> u64) {
        let players = self.players;
        for player in 0..players {
            self.winners[players + player] = pack(key(player), player);
        }
        for at in (1..players).rev() {
            let (a, b) = (self.winners[2 * at], self.winners[2 * at + 1]);
            self.winners[at] = a.min(b);
            self.nodes[at] = a.max(b);
        }
        if players > 0 {
            self.nodes[0] = self.winners[1];
        }
    }

    /// The smallest key, and its player.
    #[inline(always)]
    pub(super) fn winner(&self) -> (u64, usize) {
        #[allow(clippy::cast_possible_truncation)] // what `pack` put there
        let player = self.nodes[0] as usize;
        ((self.nodes[0] >> 64) as u64, player)
    }

    /// Gives the winner another key.
    #[inline(always)]
    pub(super) fn replace_winner(&mut self, key: u64) {
        let player = self.winner().1;
        let mut best = pack(key, player);
        let mut at = (self.players + player) / 2;
        while at > 0 {
            let other = self.nodes[at];
            self.nodes[at] = best.max(other);
            best = best.min(other);
            at /= 2;
        }
        self.nodes[0] = best;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pseudo-random numbers (SplitMix64).
    fn numbers(mut seed: u64) -> impl FnMut() -> u64 {
        move || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 32
        }
    }

    #[test]
    fn any_number_of_players_with_any_keys_is_merged_in_order() {
        for players in (1..40).chain([63, 64, 65, 1000, 1024]) {
            for range in [2, 10, 1 << 32] {
                let mut number = numbers(players as u64 * range);
                let mut lists: Vec<Vec<u64>> = (0..players)
                    .map(|_| (0..number() % 20).map(|_| number() % range).collect::<Vec<_>>())
                    .collect();
                let mut expected: Vec<(u64, usize)> = (0..players)
                    .flat_map(|player| lists[player].iter().map(move |&key| (key, player)))
                    .collect();
                expected.sort_unstable();
                lists.iter_mut().for_each(|list| list.sort_unstable_by(|a, b| b.cmp(a)));
                let mut tree = Tree::new(players);
                let mut merged = Vec::new();
                tree.build(|player| lists[player].last().copied().unwrap_or(NONE));
                while tree.winner().0 != NONE {
                    let (key, player) = tree.winner();
                    assert_eq!(lists[player].pop(), Some(key));
                    merged.push((key, player));
                    if number().is_multiple_of(16) {
                        tree.build(|player| lists[player].last().copied().unwrap_or(NONE));
                    } else {
                        tree.replace_winner(lists[player].last().copied().unwrap_or(NONE));
                    }
                }
                assert_eq!(merged, expected, "{players} players");
            }
        }
    }

    #[test]
    fn no_players_have_no_smallest_key() {
        let mut tree = Tree::new(0);
        tree.build(|_| unreachable!());
        assert_eq!(tree.winner().0, NONE);
    }
}
