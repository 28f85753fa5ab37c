/// Safetensors files with arbitrary, possibly inconsistent parts.
package enum SafetensorsFixtures {
  /// A file: the header size, the header, and `payload` bytes that count upwards.
  ///
  /// - Parameter announced: The header size in the file, if it is not the true one.
  package static func file(_ header: String, payload: Int = 0, announced: UInt64? = nil) -> [UInt8] {
    file(Array(header.utf8), payload: payload, announced: announced)
  }

  package static func file(_ header: [UInt8], payload: Int = 0, announced: UInt64? = nil) -> [UInt8] {
    let size = announced ?? UInt64(header.count)
    return (0..<8).map { UInt8(truncatingIfNeeded: size >> (8 * $0)) } + header
      + (0..<payload).map { UInt8(truncatingIfNeeded: $0) }
  }

  /// A member of a header.
  package static func entry(_ name: String, _ dtype: String, _ shape: String, _ offsets: String) -> String {
    #""\#(name)":{"dtype":"\#(dtype)","shape":\#(shape),"data_offsets":\#(offsets)}"#
  }

  /// A header of members.
  package static func header(_ entries: String...) -> String { "{" + entries.joined(separator: ",") + "}" }

  /// A file with one tensor `a` and eight bytes of payload.
  package static func one(_ dtype: String = "F32", shape: String = "[2]", offsets: String = "[0,8]") -> [UInt8] {
    file(header(entry("a", dtype, shape, offsets)), payload: 8)
  }

  /// A file with `U8` tensors `a` and `b` of the given shapes and offsets, and eight bytes of payload.
  package static func pair(_ a: (shape: String, offsets: String), _ b: (shape: String, offsets: String)) -> [UInt8] {
    file(header(entry("a", "U8", a.shape, a.offsets), entry("b", "U8", b.shape, b.offsets)), payload: 8)
  }

  /// A file with tensors of these names, all of one type and shape, of `bytes` bytes each.
  package static func tensors(_ names: [String], dtype: String = "F32", shape: String = "[2]", bytes: Int = 8)
    -> [UInt8]
  {
    let entries = names.enumerated().map { index, name in
      entry(name, dtype, shape, "[\(index * bytes),\((index + 1) * bytes)]")
    }
    return file("{" + entries.joined(separator: ",") + "}", payload: names.count * bytes)
  }
}
