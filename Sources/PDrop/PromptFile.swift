package import Kernels
package import LLaVA
package import ModelFormats
package import Storage

/// Keys and values of a prompt or of a prefix in a file of the prompt cache.
///
/// The format is safetensors, and all numbers are stored as they are, so that they are restored bit for bit:
/// - `logits` `[1, N]` of the first token of an answer, or `hidden` `[rows, D]` after the layers of a prefix, in `F32`;
/// - for each layer `keys.L` and `values.L`, `[kvHeads, rows, d]` in `F32`, `BF16` or `I8`;
/// - for int8 also `keys.L.scales` and `values.L.scales`, `[kvHeads, rows]` in `F32`;
/// - the file's `TensorChecksums`.
///
/// The metadata are the version, the key of prompt and model, the cost, and the kept tokens of each drop.
package struct PromptFile {
  /// Version of the layout; increased with every change to it.
  static let version = "pdrop-prompts 1"
  private static let alignment = 64

  /// Names and sizes of the tensors of a file, which follow from the request and the model.
  package struct Layout: Sendable {
    fileprivate struct Entry {
      let name: String
      let element: String
      let shape: [Int]
      let byteCount: Int
    }

    /// Name and shape of the floats: logits or hidden states; `nil` for none.
    let floats: (name: String, shape: [Int])?
    /// Rows of each layer that is stored; the layers after them are empty.
    let rows: [Int]
    let text: TextConfiguration
    let type: CacheType

    /// The layout of a prompt.
    package init(prompt rowsPerLayer: [Int], _ text: TextConfiguration, _ type: CacheType) {
      floats = ("logits", [1, text.vocabularySize])
      (rows, self.text, self.type) = (rowsPerLayer, text, type)
    }

    /// The layout of a prefix in the layers before the first drop.
    package init(prefix rowCount: Int, depth: Int, _ text: TextConfiguration, _ type: CacheType) {
      floats = depth < text.layerCount ? ("hidden", [rowCount, text.hiddenSize]) : nil
      (rows, self.text, self.type) = (Array(repeating: rowCount, count: depth), text, type)
    }

    /// Bytes of keys, values and floats.
    package var payloadCount: Int {
      KVCache.byteCount(rowsPerLayer: rows, text, type: type)
        + (floats?.shape.reduce(1, *) ?? 0) * ElementType.f32.byteCount
    }

    /// Number of tensors.
    fileprivate var tensorCount: Int { (floats == nil ? 0 : 1) + rows.count * (type == .int8 ? 4 : 2) }

    /// The tensors of a layer in their order.
    fileprivate func entries(layer: Int) -> [Entry] {
      let (heads, rows) = (text.heads, rows[layer])
      let count = heads.keyValueHeadCount * rows
      let element = type == .f32 ? "F32" : type == .bf16 ? "BF16" : "I8"
      return ["keys.\(layer)", "values.\(layer)"].flatMap { name in
        let elements = Entry(
          name: name, element: element, shape: [heads.keyValueHeadCount, rows, heads.headDimension],
          byteCount: count * heads.headDimension * type.elementByteCount)
        let scales = Entry(
          name: name + ".scales", element: "F32", shape: [heads.keyValueHeadCount, rows],
          byteCount: count * ElementType.f32.byteCount)
        return type == .int8 ? [elements, scales] : [elements]
      }
    }

    fileprivate var entries: [Entry] {
      let first = floats.map { name, shape in
        Entry(
          name: name, element: "F32", shape: shape, byteCount: shape.reduce(1, *) * ElementType.f32.byteCount)
      }
      return [first].compactMap(\.self) + rows.indices.flatMap { entries(layer: $0) }
    }

    /// Maximum number of bytes of a file.
    ///
    /// - Parameters:
    ///   - key: The key of prompt and model.
    ///   - fields: Maximum number of bytes of the other metadata.
    package func byteCount(key: String, fields: Int) -> Int {
      // Headers have less than 256 bytes for a tensor.
      payloadCount + 256 * (tensorCount + 1) + key.utf8.count + fields + 1024
    }
  }

  private let file: SafetensorsFile
  private let layout: Layout

  // MARK: - Reading

  /// Reads a file and checks all of it but the values of its metadata.
  ///
  /// - Parameters:
  ///   - limit: Maximum size of the file, in bytes.
  ///   - key: The key of prompt and model.
  ///   - workers: The threads that compute checksums.
  package init(
    _ path: String, key: String, _ layout: Layout, limit: Int, _ workers: Workers
  ) throws(CacheFileError) {
    file = try SafetensorsFile(
      cached: path, limit: limit, version: Self.version, key: key, owner: "prompt or model", workers)
    self.layout = layout
    let entries = layout.entries
    let fits = entries.allSatisfy { entry in
      guard let info = file.records[entry.name] else { return false }
      return info.elementName == entry.element && info.shape == entry.shape && info.bytes.count == entry.byteCount
    }
    // The other tensor has the checksums.
    guard fits, file.records.count == entries.count + 1 else {
      throw unusable("its tensors are not those of the model")
    }
  }

  /// The error of a file with an unusable part.
  package func unusable(_ reason: String) -> CacheFileError { .unusable("\(file.path): \(reason)") }

  package var byteCount: Int { file.storage.count }

  /// A text of the metadata.
  func field(_ name: String) -> String? { file.metadata[name] }

  /// A number of the metadata within a range.
  func number(_ name: String, in range: ClosedRange<Int>) throws(CacheFileError) -> Int {
    guard let text = file.metadata[name], let number = Int(text), range.contains(number) else {
      throw unusable("\(name) is missing or damaged")
    }
    return number
  }

  /// The logits or the hidden states; no rows if there are none.
  package func floats() throws(CacheFileError) -> Matrix {
    var matrix = Matrix(rows: 0, columns: layout.floats?.shape.last ?? layout.text.hiddenSize)
    guard let name = layout.floats?.name else { return matrix }
    do {
      let tensor = try file.tensor(name)
      matrix.resize(rows: tensor.rows)
      for row in 0..<tensor.rows { matrix.setRow(row, to: tensor, row: row) }
    } catch { throw .unusable("\(error)") }
    return matrix
  }

  /// Keys and values, in parallel.
  ///
  /// - Parameters:
  ///   - nextPositions: The position of the next token in each stored layer.
  ///   - reservedRows: Additional capacity of each stored layer.
  package func cache(nextPositions: [Int], reservedRows: Int) throws(CacheFileError) -> KVCache {
    let (heads, type) = (layout.text.heads, layout.type)
    func bytes(_ name: String) throws(CacheFileError) -> SharedBytes {
      guard let info = file.records[name] else { throw unusable("it has no '\(name)'") }
      return file.storage.part(info.bytes)
    }
    func rows(_ name: String, _ count: Int) throws(CacheFileError) -> CacheRows {
      CacheRows(
        heads, type: type, rows: count, elements: try bytes(name),
        scales: type == .int8 ? try bytes(name + ".scales") : nil, capacity: count + reservedRows)
    }
    return try KVCache(
      layout.text, type: type, count: layout.rows.count
    ) { (index) throws(CacheFileError) in
      LayerCache(
        keys: try rows("keys.\(index)", layout.rows[index]), values: try rows("values.\(index)", layout.rows[index]),
        nextPosition: nextPositions[index])
    }
  }

  // MARK: - Writing

  /// Writes a file atomically; only one of its tensors is copied at a time.
  ///
  /// - Parameters:
  ///   - floats: Returns the bytes of logits or hidden states; called if the layout has them.
  ///   - cache: Has the rows of the layout.
  ///   - fields: Metadata by name.
  /// - Returns: Bytes written; `nil` if another process is writing the file.
  /// - Throws: `FileError` when it cannot be written.
  package static func write(
    _ layout: Layout, floats: () -> SharedBytes, _ cache: KVCache, fields: [String: String], key: String,
    to path: String
  ) throws(FileError) -> Int? {
    let entries = layout.entries
    precondition(
      Array(cache.lengths.prefix(layout.rows.count)) == layout.rows,
      "PromptFile: \(cache.lengths) rows for \(layout.rows)")
    guard var file = try AtomicFile(path) else { return nil }
    var header = SafetensorsHeader(
      metadata: fields.merging([CacheField.version: version, CacheField.key: key]) { $1 })
    for entry in entries { header.add(entry.name, entry.element, entry.shape, byteCount: entry.byteCount) }
    let first = layout.floats == nil ? 0 : 1
    let perLayer = layout.type == .int8 ? 4 : 2
    let count = try TensorChecksums.write(
      header, count: entries.count, to: &file, path: path, alignment: alignment
    ) { index in
      guard index >= first else { return floats() }
      let part = (index - first) % perLayer
      return cache.withLayer((index - first) / perLayer) { layer in
        if part < perLayer / 2 { return layer.keys.stored(part) }
        return layer.values.stored(part - perLayer / 2)
      }
    }
    try file.finish(modified: nil, isDurable: false)
    return count
  }
}

extension CacheRows {
  /// The elements for 0, the scales of int8 for 1.
  fileprivate func stored(_ part: Int) -> SharedBytes {
    guard part == 1, let scales = storedScales() else { return storedElements() }
    return scales
  }
}
