//! `#[map]` of `mapring-ebpf`: finds the name, the type and the options of a map, and hands them to a macro of that crate,
//! which declares it.

use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

/// Declares a map of mapring: `#[map] static NAME: Ring<Type, SLOTS> = Ring::new();`. The maps are `Ring`, `Cells`, `Counters` and
/// `Histograms`. Write the options of a ring out, not as an alias: the attribute looks for their names.
#[proc_macro_attribute]
pub fn map(_: TokenStream, item: TokenStream) -> TokenStream {
    declare(item).unwrap_or_else(|(at, message)| {
        let text = format!("::core::compile_error!({message:?});");
        let error: TokenStream = text.parse().expect("it is Rust");
        error
            .into_iter()
            .map(|mut token| {
                token.set_span(at);
                token
            })
            .collect()
    })
}

const FORM: &str =
    "mapring: #[map] takes `static NAME: Ring<Type, SLOTS> = Ring::new();`, or Cells, Counters, Histograms";

/// `[before] NAME Kind [type] parts…` as the macro `__map` takes it.
fn declare(item: TokenStream) -> Result<TokenStream, (Span, &'static str)> {
    let tokens = flat(item);
    let is = |token: &TokenTree, text: &str| token.to_string() == text;
    let wrong = (Span::call_site(), FORM);
    let of = |text: &str| tokens.iter().position(|token| is(token, text)).ok_or(wrong);
    let (word, end) = (of("static")?, of("=")?);
    let [TokenTree::Ident(name), colon, ty @ ..] = &tokens[word + 1..end] else { return Err(wrong) };
    if !is(colon, ":") {
        return Err(wrong);
    }
    // The last name before the parameters, which a path may precede.
    let params = ty.iter().position(|token| is(token, "<")).ok_or(wrong)?;
    let Some(TokenTree::Ident(kind)) = params.checked_sub(1).map(|at| &ty[at]) else { return Err(wrong) };
    let value: String = tokens[end + 1..].iter().map(ToString::to_string).collect();
    if !value.trim_end_matches(';').ends_with(&format!("{kind}::new()")) {
        return Err((kind.span(), FORM));
    }
    let mut parts = match kind.to_string().as_str() {
        "Ring" => vec!["claim"],
        "Cells" | "Counters" | "Histograms" => vec![],
        _ => return Err((kind.span(), FORM)),
    };
    let options = ["Wakeable", "KeepOldest", "Tails", "PerCpuMaps"];
    let [wakes, keeps, tails, per_cpu] = options.map(|option| has(ty, option));
    let needed = [("wake", wakes || keeps), ("tail", tails), ("unread", keeps && tails), ("first", per_cpu)];
    for (part, needed) in needed {
        if needed {
            parts.push(part);
        }
    }
    let group = |tokens: &[TokenTree]| {
        TokenTree::from(Group::new(Delimiter::Bracket, tokens.iter().cloned().collect()))
    };
    let mut input = vec![group(&tokens[..word]), name.clone().into(), group(ty)];
    input.extend(parts.into_iter().map(|part| Ident::new(part, Span::call_site()).into()));
    let mut output: TokenStream = "::mapring_ebpf::__map!".parse().expect("it is Rust");
    output.extend([TokenTree::from(Group::new(Delimiter::Brace, input.into_iter().collect()))]);
    Ok(output)
}

/// The tokens, without the groups that stand for parameters of a macro.
fn flat(tokens: TokenStream) -> Vec<TokenTree> {
    let mut flattened = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
                flattened.extend(flat(group.stream()))
            }
            token => flattened.push(token),
        }
    }
    flattened
}

/// Whether this name is anywhere in a type.
fn has(tokens: &[TokenTree], name: &str) -> bool {
    tokens.iter().any(|token| match token {
        TokenTree::Ident(ident) => ident.to_string() == name,
        TokenTree::Group(group) => has(&flat(group.stream()), name),
        _ => false,
    })
}
