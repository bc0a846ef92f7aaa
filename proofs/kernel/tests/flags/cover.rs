//! Merges combinations with the same outcome into few groups; each group lists the values of each property.

/// A group: the values of each property, as bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group<T> {
    pub(crate) values: Vec<u32>,
    pub(crate) outcome: T,
}

impl<T> Group<T> {
    fn overlaps(&self, values: &[u32]) -> bool {
        self.values.iter().zip(values).all(|(one, other)| one & other != 0)
    }
}

/// Merges groups with the same outcome that differ in one property, repeatedly; earlier properties are merged first.
/// Then it widens each group to all values of a property, or to all but one, if that includes no other outcome. Finally
/// it removes groups that others cover. Every combination of the input is in one or more groups of its outcome, and in
/// no other. `counts`: the number of values of each property.
pub(crate) fn joined<T: PartialEq>(mut groups: Vec<Group<T>>, counts: &[usize]) -> Vec<Group<T>> {
    let all: Vec<_> = groups.iter().map(|group| group.values.clone()).collect();
    let properties = counts.len();
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
    for at in 0..groups.len() {
        for (property, &count) in counts.iter().enumerate() {
            let (has, all) = (groups[at].values[property], (1 << count) - 1);
            let but_one = (0..count).map(|value| all & !(1 << value)).filter(|values| values & has == has);
            let right = |values: &u32| {
                let mut wider = groups[at].values.clone();
                wider[property] = *values;
                let outcome = &groups[at].outcome;
                groups.iter().all(|group| group.outcome == *outcome || !group.overlaps(&wider))
            };
            let wider = [all].into_iter().chain(but_one).find(right);
            groups[at].values[property] = wider.unwrap_or(has);
        }
    }
    for at in (0..groups.len()).rev() {
        let others =
            |one: &Vec<u32>| groups.iter().enumerate().any(|(i, other)| i != at && other.overlaps(one));
        if all.iter().filter(|one| groups[at].overlaps(one)).all(others) {
            groups.remove(at);
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
                if a != 0 || c != 1 {
                    all.push(Group { values: vec![1 << a, 1 << b, 1 << c], outcome: a == 2 && c == 1 });
                }
            }
        }
    }
    let groups = joined(all.clone(), &[3, 2, 2]);
    assert_eq!(groups.len(), 3, "{groups:?}");
    for one in &all {
        let mut found = groups.iter().filter(|group| group.overlaps(&one.values)).peekable();
        assert!(
            found.peek().is_some() && found.all(|group| group.outcome == one.outcome),
            "{one:?}: {groups:?}"
        );
    }
    // A combination that was in no group is in one of them, which makes the text shorter.
    assert!(groups.contains(&Group { values: vec![3, 3, 3], outcome: false }), "{groups:?}");
}
