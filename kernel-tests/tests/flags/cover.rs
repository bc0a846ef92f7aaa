//! Combinations that behave alike, told as few: each group says which values of each property it has.

/// A group: of each property the values that it has, as bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group<T> {
    pub(crate) values: Vec<u32>,
    pub(crate) outcome: T,
}

/// Joins groups of one outcome that differ in one property, as long as there are such. Every
/// combination is in one group before and after; properties that come first are joined first.
pub(crate) fn joined<T: PartialEq>(mut groups: Vec<Group<T>>) -> Vec<Group<T>> {
    let properties = groups.first().map_or(0, |group| group.values.len());
    let mut again = true;
    while again {
        again = false;
        for property in 0..properties {
            let mut at = 0;
            while at < groups.len() {
                let rest = |group: &Group<T>| {
                    let mut values = group.values.clone();
                    values.remove(property);
                    values
                };
                let other = (at + 1..groups.len()).find(|&other| {
                    groups[at].outcome == groups[other].outcome && rest(&groups[at]) == rest(&groups[other])
                });
                if let Some(other) = other {
                    let other = groups.remove(other);
                    groups[at].values[property] |= other.values[property];
                    again = true;
                } else {
                    at += 1;
                }
            }
        }
    }
    groups
}

#[test]
fn groups_cover_what_they_were_made_of() {
    let mut all = Vec::new();
    for a in 0..3_u32 {
        for b in 0..2_u32 {
            for c in 0..2_u32 {
                all.push(Group { values: vec![1 << a, 1 << b, 1 << c], outcome: a == 2 && c == 1 });
            }
        }
    }
    let groups = joined(all.clone());
    assert_eq!(groups.len(), 3, "{groups:?}");
    for one in &all {
        let has = |group: &&Group<bool>| group.values.iter().zip(&one.values).all(|(many, one)| many & one != 0);
        let found: Vec<_> = groups.iter().filter(has).collect();
        assert!(matches!(found[..], [group] if group.outcome == one.outcome), "{one:?}: {found:?}");
    }
}
