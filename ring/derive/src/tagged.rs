//! `#[derive(Tagged)]`: the variants of tagged records.

use std::collections::HashSet;

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Data, DeriveInput, Error, Fields, GenericParam, LitInt, Type, TypeReference, Variant};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream, Error> {
    let wrong = |why| Err(Error::new_spanned(&input.ident, why));
    let Data::Enum(data) = &input.data else {
        return wrong("only an enum has variants");
    };
    let lifetime = match input.generics.params.iter().collect::<Vec<_>>()[..] {
        [GenericParam::Lifetime(only)] => &only.lifetime,
        _ => return wrong("its variants refer to records, so it has one lifetime and no other parameter"),
    };
    if data.variants.is_empty() {
        return wrong("it needs at least one variant");
    }
    let name = &input.ident;
    let mut tags = HashSet::new();
    let mut types = Vec::new();
    let (mut described, mut arms) = (Vec::new(), Vec::new());
    for variant in &data.variants {
        let (literal, tag) = tag(variant)?;
        if !tags.insert(tag) {
            return Err(Error::new_spanned(literal, "another variant has this tag"));
        }
        let ty = record(variant)?;
        let ident = &variant.ident;
        let text = ident.unraw().to_string();
        let tag = u64::from(tag);
        described.push(quote! {
            ::mapring::record::Variant {
                tag: #tag,
                name: #text,
                layout: <#ty as ::mapring::Record>::LAYOUT,
            }
        });
        arms.push(quote!(#tag => Self::With::#ident(::mapring::__private::record_in(payload))));
        types.push(ty);
    }
    // With another name, since `'static` can't be a parameter.
    Ok(quote! {
        #[automatically_derived]
        impl ::mapring::tagged::Variants for #name<'static> {
            type With<#lifetime> = #name<#lifetime>;
            type Payload = [u64; ::mapring::__private::payload_words(&[#(::core::mem::size_of::<#types>()),*])];
            const VARIANTS: &'static [::mapring::record::Variant] = &[#(#described),*];

            #[inline]
            fn decode(tag: u64, payload: &Self::Payload) -> ::core::option::Option<Self::With<'_>> {
                ::core::option::Option::Some(match tag {
                    #(#arms,)*
                    _ => return ::core::option::Option::None,
                })
            }
        }
    })
}

/// The tag of a variant: its `#[tag(…)]`.
fn tag(variant: &Variant) -> Result<(LitInt, u32), Error> {
    let mut tags = variant.attrs.iter().filter(|attribute| attribute.path().is_ident("tag"));
    let (Some(attribute), None) = (tags.next(), tags.next()) else {
        return Err(Error::new_spanned(&variant.ident, "it needs one tag, as in C: #[tag(1)]"));
    };
    let literal: LitInt = attribute.parse_args()?;
    match literal.base10_parse() {
        Ok(tag) if tag != 0 => Ok((literal, tag)),
        _ => Err(Error::new_spanned(literal, "a tag is a number from 1 to 4294967295")),
    }
}

/// The type of the record to which a variant refers.
fn record(variant: &Variant) -> Result<&Type, Error> {
    if let Fields::Unnamed(fields) = &variant.fields
        && let Some(field) = fields.unnamed.first()
        && let Type::Reference(TypeReference { mutability: None, elem, .. }) = &field.ty
        && fields.unnamed.len() == 1
    {
        return Ok(elem);
    }
    Err(Error::new_spanned(&variant.ident, "it holds a reference to one record: Exec(&'r Exec)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(input: &str) -> String {
        expand(&syn::parse_str(input).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_tagged_is_told_why() {
        assert!(refused("struct A;").contains("only an enum"));
        assert!(refused("enum A { B }").contains("one lifetime"));
        assert!(refused("enum A<'r, T> { B(&'r T) }").contains("one lifetime"));
        assert!(refused("enum A<'r> {}").contains("at least one"));
        assert!(refused("enum A<'r> { B(&'r u8) }").contains("#[tag(1)]"));
        assert!(refused("enum A<'r> { #[tag(1)] #[tag(2)] B(&'r u8) }").contains("one tag"));
        assert!(refused("enum A<'r> { #[tag(0)] B(&'r u8) }").contains("from 1 to"));
        assert!(refused("enum A<'r> { #[tag(4294967296)] B(&'r u8) }").contains("from 1 to"));
        assert!(refused("enum A<'r> { #[tag(1)] B(&'r u8), #[tag(0x1)] C(&'r u8) }").contains("this tag"));
        for variant in ["B", "B(u8)", "B(&'r mut u8)", "B(&'r u8, &'r u8)", "B { a: &'r u8 }"] {
            let message = refused(&format!("enum A<'r> {{ #[tag(1)] {variant} }}"));
            assert!(message.contains("reference to one record"), "{variant}: {message}");
        }
    }

    #[test]
    fn each_variant_has_its_tag_and_record() {
        let code =
            expand(&syn::parse_str("enum A<'r> { #[tag(1)] r#Type(&'r B), #[tag(9)] C(&'r D) }").unwrap());
        let code = code.unwrap().to_string().replace(' ', "");
        assert!(code.contains("tag:1u64,name:\"Type\",layout:<Bas::mapring::Record>::LAYOUT"), "{code}");
        assert!(code.contains("9u64=>Self::With::C(::mapring::__private::record_in(payload))"), "{code}");
    }
}
