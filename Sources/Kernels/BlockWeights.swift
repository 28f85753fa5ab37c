import CKernels
package import Storage

/// A block-quantized weight, `[outputs, inputs]`, packed for the kernels: groups of 16 rows, interleaved.
///
/// Packing moves codes and scales and changes no weight. Matmuls multiply the codes by int8 activations, with one scale for
/// the values that meet a block: 32 or 256.
package struct BlockWeights: Sendable {
  /// The type of the blocks, one of `types`.
  package let type: BlockType
  package let outputs: Int
  package let inputs: Int
  /// Packed groups of 16 rows; rows that are missing in the last group are zero.
  package let groups: SharedBytes

  /// The layout of the groups and its version, for files of packed weights. Increment the version when the result of
  /// `init(packing:as:workers:)` changes.
  package static let scheme = "groups of 16 rows, 1"

  /// The maximum number of inputs; longer rows could overflow 32-bit sums of int8 products.
  package static let maxInputCount = Int8Weights.maxInputCount

  /// The types that the kernels read.
  package static let types = BlockType.allCases.filter { $0.packedType == $0 }

  /// Whether rows of `inputs` values can be stored in blocks: whole blocks of 32, and not too many.
  package static func supports(inputs: Int) -> Bool {
    inputs > 0 && inputs.isMultiple(of: BlockType.q8zero.valuesPerBlock) && inputs <= maxInputCount
  }

  /// The type for rows of `inputs` floats: `requested`, or with blocks of 32 if its blocks do not divide the row: Q4_0
  /// in place of Q4_K, Q8_0 in place of others.
  package static func type(_ requested: BlockType, inputs: Int) -> BlockType {
    if inputs.isMultiple(of: requested.valuesPerBlock) { return requested }
    return requested == .q4K ? .q4zero : .q8zero
  }

  /// Packs a weight, in parallel. Blocks keep their type if the kernels read it and become Q8_0 otherwise; floats are
  /// quantized.
  ///
  /// - Precondition: `supports(inputs:)`.
  /// - Parameters:
  ///   - tensor: The stored weight.
  ///   - floatType: The type that floats are quantized to.
  ///   - workers: The threads that pack the rows.
  package init(packing tensor: Tensor, as floatType: BlockType, workers: Workers) {
    let (outputs, inputs) = (tensor.rows, tensor.columns)
    precondition(Self.supports(inputs: inputs), "BlockWeights: \(inputs) inputs")
    let type: BlockType =
      switch tensor.type {
      case .blocks(let stored): stored.packedType
      case .floats: Self.type(floatType, inputs: inputs)
      }
    let isPackedAsStored = tensor.type == .blocks(type)
    let (code, groupRows) = (type.code, Int(PDROP_GROUP_ROWS))
    let groupBytes = pdrop_group_bytes(code, inputs)
    let groupCount = (outputs + groupRows - 1) / groupRows
    let rowBytes = type.byteCount(inputs)
    groups = unsafe SharedBytes(count: groupCount * groupBytes) { target in
      workers.run(tasks: groupCount) { group, _ in
        let rows = group * groupRows..<min((group + 1) * groupRows, outputs)
        let packed = unsafe target + group * groupBytes
        if isPackedAsStored {
          let first = unsafe tensor.address + rows.lowerBound * rowBytes
          unsafe pdrop_pack_group(code, first, rowBytes, Int32(rows.count), inputs, packed)
        } else {
          // Quantized group by group, so that memory holds no copy of the whole weight.
          let blocks = unsafe allocateBytes(groupRows * rowBytes)
          defer { unsafe blocks.deallocate() }
          for (index, row) in rows.enumerated() {
            unsafe Self.quantize(tensor, row: row, to: type, blocks + index * rowBytes)
          }
          unsafe pdrop_pack_group(code, blocks, rowBytes, Int32(rows.count), inputs, packed)
        }
      }
    }
    self.type = type
    self.outputs = outputs
    self.inputs = inputs
  }

  /// Writes a row of a stored weight, of floats or of blocks, in blocks of a type.
  private static func quantize(_ tensor: Tensor, row: Int, to type: BlockType, _ blocks: UnsafeMutableRawPointer) {
    let inputs = tensor.columns
    if case .blocks(let stored) = tensor.type, type == .q8zero {
      let source = unsafe tensor.address + row * tensor.rowByteCount
      unsafe pdrop_convert_blocks_to_q8_0(stored.code, source, inputs, blocks)
      return
    }
    let values = unsafe allocateFloats(inputs)
    defer { unsafe values.deallocate() }
    unsafe tensor.widen(row * inputs..<(row + 1) * inputs, into: values)
    unsafe pdrop_quantize_blocks(type.code, values, nil, inputs, blocks)
  }

  /// A weight that is already packed; the values are not checked.
  ///
  /// - Precondition: The byte counts match type and shape, and groups are 64-byte aligned.
  package init(type: BlockType, outputs: Int, inputs: Int, groups: SharedBytes) {
    precondition(
      Self.supports(inputs: inputs) && inputs.isMultiple(of: type.valuesPerBlock) && type.packedType == type
        && groups.count == Self.groupByteCount(type, outputs: outputs, inputs: inputs),
      "BlockWeights: \(outputs)×\(inputs) \(type.rawValue) from \(groups.count) bytes")
    precondition(
      Int(bitPattern: unsafe groups.address(of: 0)).isMultiple(of: 64), "BlockWeights: unaligned groups")
    self.type = type
    self.outputs = outputs
    self.inputs = inputs
    self.groups = groups
  }

  /// Bytes of the groups of a weight.
  package static func groupByteCount(_ type: BlockType, outputs: Int, inputs: Int) -> Int {
    (outputs + Int(PDROP_GROUP_ROWS) - 1) / Int(PDROP_GROUP_ROWS) * pdrop_group_bytes(type.code, inputs)
  }

  /// Bytes of the groups.
  package var byteCount: Int { groups.count }

  /// The weight in the layout of files, `[outputs, inputs]`, with the values of the packed one.
  package func stored() -> Tensor {
    let (groupRows, rowBytes) = (Int(PDROP_GROUP_ROWS), type.byteCount(inputs))
    let groupBytes = pdrop_group_bytes(type.code, inputs)
    let bytes = unsafe SharedBytes(count: outputs * rowBytes) { target in
      for first in stride(from: 0, to: outputs, by: groupRows) {
        unsafe pdrop_unpack_group(
          type.code, groups.address(of: first / groupRows * groupBytes), Int32(min(groupRows, outputs - first)), inputs,
          target + first * rowBytes, rowBytes)
      }
    }
    return Tensor(bytes, shape: [outputs, inputs], type: .blocks(type))
  }

  /// The address of the group that begins with a row.
  ///
  /// - Precondition: `row` is a multiple of the rows of a group.
  func address(ofGroupAt row: Int) -> UnsafeRawPointer {
    let groupRows = Int(PDROP_GROUP_ROWS)
    precondition(row.isMultiple(of: groupRows) && row < outputs, "BlockWeights: group at row \(row) of \(outputs)")
    return unsafe groups.address(of: row / groupRows * pdrop_group_bytes(type.code, inputs))
  }
}

extension BlockType {
  /// Bytes of a row of `inputs` values.
  fileprivate func byteCount(_ inputs: Int) -> Int { StoredType.blocks(self).byteCount(inputs) }
}
