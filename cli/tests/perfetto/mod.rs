//! Decodes traces by the schema as it is written, without the types that the command has from it.

use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, SerializeOptions, Value};

const SCHEMA: &str = include_str!("../../flight/proto/perfetto.proto");

/// The packets of a trace, as JSON with the names of the schema. Fails if the schema lacks a field, has it with another
/// type, or if a text is not UTF-8.
pub(crate) fn packets(trace: &[u8]) -> Vec<serde_json::Value> {
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_proto(protox_parse::parse("perfetto.proto", SCHEMA).unwrap()).unwrap();
    let trace_type = pool.get_message_by_name("perfetto.protos.Trace").unwrap();
    let mut trace = DynamicMessage::decode(trace_type, trace).unwrap();
    expect_known(&trace);
    let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    let packets = trace.take_field_by_name("packet").unwrap();
    let json = |packet: &Value| {
        packet.as_message().unwrap().serialize_with_options(serde_json::value::Serializer, &options).unwrap()
    };
    packets.as_list().unwrap().iter().map(json).collect()
}

fn expect_known(message: &DynamicMessage) {
    let unknown: Vec<_> = message.unknown_fields().collect();
    assert!(unknown.is_empty(), "{}: {unknown:?}", message.descriptor().full_name());
    for (_, value) in message.fields() {
        match value {
            Value::Message(inner) => expect_known(inner),
            Value::List(list) => list.iter().filter_map(Value::as_message).for_each(expect_known),
            _ => {}
        }
    }
}

/// The ftrace events of all bundles: the CPU and the event.
pub(crate) fn events(packets: &[serde_json::Value]) -> Vec<(u64, &serde_json::Value)> {
    let bundles = packets.iter().map(|packet| &packet["ftrace_events"]).filter(|bundle| !bundle.is_null());
    bundles
        .flat_map(|bundle| {
            let cpu = bundle["cpu"].as_u64().expect("each bundle has its CPU");
            bundle["event"].as_array().unwrap().iter().map(move |event| (cpu, event))
        })
        .collect()
}
