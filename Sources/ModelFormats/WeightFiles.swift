import Foundation
import Storage

/// The weight files of a directory and their tensors.
///
/// Source: the order in which `from_pretrained` of transformers searches for files. Shards without an index are read
/// here only.
struct WeightFiles {
  private(set) var tensors: [(name: String, file: any WeightFile)] = []
  private(set) var notes: [LoadNote] = []

  /// The supported weight files in order of preference; an index of shards has the same name plus `.index.json`.
  private static let kinds: [(stem: String, ending: String, type: any WeightFile.Type)] = [
    ("model", "safetensors", SafetensorsFile.self), ("pytorch_model", "bin", TorchArchive.self),
  ]

  /// The names of weight files, in search order.
  static let names = kinds.flatMap { ["\($0.stem).\($0.ending)", "\($0.stem).\($0.ending).index.json"] }

  /// Opens `model.safetensors`, the shards of `model.safetensors.index.json`, PyTorch's files, or shards without index.
  ///
  /// - Throws: `CheckpointError` if there are no weights or a file is damaged.
  init(directory: String) throws(CheckpointError) {
    let entries = ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []).sorted()
    let shards = Self.kinds.map { kind in Shards(kind.stem, kind.ending, in: entries) }
    let present = Self.names.filter { FileManager.default.fileExists(atPath: directory + "/" + $0) }
    if let used = present.first, let kind = Self.kinds.first(where: { used.hasPrefix($0.stem + ".") }) {
      let isIndex = used.hasSuffix(".json")
      if isIndex {
        try addShards(of: used, in: directory, kind.type)
      } else {
        try add(kind.type.init(directory + "/" + used))
      }
      let read = Set(tensors.map { URL(filePath: $0.file.path).lastPathComponent })
      let others = present.dropFirst() + shards.flatMap(\.names).filter { !read.contains($0) }
      if !others.isEmpty { notes.append(.otherWeights(used: used, ignored: Self.summary(Array(others)))) }
    } else if let index = shards.firstIndex(where: { !$0.names.isEmpty }) {
      for name in try shards[index].complete(directory: directory) {
        try add(Self.kinds[index].type.init(directory + "/" + name))
      }
      notes.append(.shardsWithoutIndex(count: shards[index].names.count))
    } else {
      try Adapter.refuse(directory)
      let endings = ["bin", "gguf", "safetensors", "pt", "pth", "ckpt", "npz", "h5", "msgpack"]
      throw .noWeights(
        directory: directory, found: entries.filter { name in endings.contains { name.hasSuffix("." + $0) } })
    }
    if let adapter = Adapter.weightNames.first(where: entries.contains), entries.contains(Adapter.configurationName) {
      notes.append(.adapterNotApplied(file: adapter))
    }
  }

  /// The first names of a list, and the number of the others.
  private static func summary(_ names: [String]) -> [String] {
    names.count <= 4 ? names.map(\.nameText) : names.prefix(3).map(\.nameText) + ["\(names.count - 3) other files"]
  }

  private mutating func add(_ file: any WeightFile) {
    for name in file.records.keys.sorted() { tensors.append((name, file)) }
  }

  /// Adds the tensors of the files of an index. As in transformers, it names the files, and each has what it has: a tensor
  /// may be in another of them than the index says, or not in the index.
  private mutating func addShards(
    of indexName: String, in directory: String, _ type: any WeightFile.Type
  ) throws(CheckpointError) {
    let index = directory + "/" + indexName
    let section = try JSONFile.section(at: index)
    guard let members = section["weight_map"].members else { throw section.error("weight_map", "an object") }
    let map = Dictionary(members.map { ($0.key, $0.value) }, uniquingKeysWith: { $1 })
    var files: [String: any WeightFile] = [:]
    var misplaced: [(name: String, path: String)] = []
    for (name, value) in map.sorted(by: { $0.key < $1.key }) {
      // Checked by bytes: a slash with a combining accent is another character, but still a slash in a path.
      guard let fileName = value.string, !fileName.utf8.contains(where: { $0 == UInt8(ascii: "/") || $0 == 0 }),
        fileName != "..", !fileName.isEmpty
      else {
        throw .badValue(
          file: index, key: "weight_map.\(name.nameText)", expected: "a file name", found: value.excerpt)
      }
      let path = directory + "/" + fileName
      let file: any WeightFile
      if let open = files[path] { file = open } else { file = try type.init(path) }
      files[path] = file
      if file.records[name] != nil { tensors.append((name, file)) } else { misplaced.append((name, path)) }
    }
    var names = Set(tensors.map(\.name))
    for (_, file) in files.sorted(by: { $0.key < $1.key }) {
      for name in file.records.keys.sorted() where names.insert(name).inserted {
        tensors.append((name, file))
      }
    }
    if let (name, path) = misplaced.first(where: { !names.contains($0.name) }) {
      throw .missingTensor(name: name, directory: path)
    }
  }
}

/// The files of a directory that are named like shards, `model-00001-of-00002.safetensors`.
private struct Shards {
  let stem: String
  let ending: String
  /// The files in the order of their numbers.
  private(set) var names: [String] = []
  /// The numbers of files in the names.
  private var totals: Set<Int> = []

  init(_ stem: String, _ ending: String, in entries: [String]) {
    self.stem = stem
    self.ending = ending
    for name in entries where name.hasPrefix(stem + "-") && name.hasSuffix("." + ending) {
      let parts = name.dropFirst(stem.count + 1).dropLast(ending.count + 1).split(separator: "-")
      guard parts.count == 3, parts[1] == "of", let number = Self.number(parts[0]), let total = Self.number(parts[2]),
        number >= 1, number <= total
      else { continue }
      names.append(name)
      totals.insert(total)
    }
  }

  private static func number(_ text: Substring) -> Int? {
    text.utf8.count == 5 && text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
      ? Int(text) : nil
  }

  /// All files.
  ///
  /// - Throws: `CheckpointError` unless they are the shards of one checkpoint and none is missing.
  func complete(directory: String) throws(CheckpointError) -> [String] {
    guard totals.count == 1, let total = totals.first else {
      throw .ambiguousShards(directory: directory, found: names)
    }
    func padded(_ number: Int) -> String { String(repeating: "0", count: 5 - "\(number)".count) + "\(number)" }
    let missing = Set((1...total).map { "\(stem)-\(padded($0))-of-\(padded(total)).\(ending)" }).subtracting(names)
    guard missing.isEmpty else {
      throw .missingShards(directory: directory, missing: missing.sorted(), total: total)
    }
    return names
  }
}

/// The files of peft for an adapter, such as LoRA, which changes the weights of a base model.
enum Adapter {
  static let configurationName = "adapter_config.json"
  static let weightNames = ["adapter_model.safetensors", "adapter_model.bin"]

  /// Refuses a directory that has an adapter; called if it has no weights of a model.
  static func refuse(_ directory: String) throws(CheckpointError) {
    guard let file = try JSONFile.sectionIfPresent(at: directory + "/" + configurationName) else { return }
    let kind = file["peft_type"].string.map { $0 == "LORA" ? "LoRA" : $0.excerpt } ?? "peft"
    throw .adapterAlone(directory: directory, kind: kind, base: file["base_model_name_or_path"].string)
  }
}

/// The tensors of weights that are not those of a plain model.
enum ForeignTensors {
  /// Components of names by the method of quantization that writes them.
  private static let quantized = [
    "qweight": "AWQ or GPTQ", "qzeros": "AWQ or GPTQ", "quant_state": "bitsandbytes", "absmax": "bitsandbytes",
    "SCB": "bitsandbytes", "W_q": "HQQ", "weight_packed": "compressed-tensors", "_data": "quanto",
    "codebooks": "AQLM", "weight_scale": "FP8 or int8 with scales", "weight_scale_inv": "FP8 or int8 with scales",
    "weight_scales": "FP8 or int8 with scales",
  ]

  private static let adapters: Set = [
    "lora_A", "lora_B", "lora_a", "lora_b", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector",
    "base_layer",
  ]

  /// Refuses a tensor of quantized weights or of an adapter that is not merged.
  static func refuse(_ name: String, file: String) throws(CheckpointError) {
    for component in name.split(separator: ".") {
      let component = String(component)
      if adapters.contains(component) { throw .unmergedAdapter(file: file, tensor: name) }
      if let method = quantized[component] {
        throw .quantized(path: file, method: method, evidence: name.excerpt, source: nil)
      }
    }
  }

  /// Refuses the quantization that a `config.json` declares.
  static func refuseQuantization(in file: ConfigurationSection, directory: String) throws(CheckpointError) {
    let text = try file.section("text_config")
    for (key, section) in [
      ("quantization_config", file), ("text_config.quantization_config", text), ("compression_config", file),
      ("quantization", file),
    ] {
      guard let value = section?[String(key.split(separator: ".").last ?? "")], !value.isNull else { continue }
      let name = value["quant_method"].string ?? value["quantization_method"].string
      let method =
        name.map { known[$0.lowercased()] ?? $0.excerpt }
        ?? (value["load_in_4bit"].bool == true || value["load_in_8bit"].bool == true
          ? "bitsandbytes" : key == "quantization" ? "MLX" : "a method without a name")
      let bits = value["bits"].wholeValue.map { ", \($0) bits" } ?? ""
      throw .quantized(
        path: directory, method: method + bits, evidence: "\(key) of config.json", source: file["_name_or_path"].string)
    }
  }

  private static let known = [
    "awq": "AWQ", "gptq": "GPTQ", "bitsandbytes": "bitsandbytes", "hqq": "HQQ", "fp8": "FP8",
    "fbgemm_fp8": "FP8 (FBGEMM)", "compressed-tensors": "compressed-tensors", "eetq": "EETQ", "quanto": "quanto",
    "aqlm": "AQLM", "torchao": "torchao",
  ]
}
