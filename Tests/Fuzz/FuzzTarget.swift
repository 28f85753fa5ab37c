@testable import BatchInference
import Evaluation
import Foundation
import Grammar
import ImageProcessing
import Jinja
import Kernels
import ModelFormats
import PDrop
import Serving
import Storage
import TokenDropping
import Tokenizers

/// A reader of untrusted bytes.
///
/// Readers are called through the same doors as in the programs, so that their internals can change. A crash, a hang, a
/// leak, an access out of bounds or a message of several lines is a fault.
enum FuzzTarget: String, CaseIterable {
  case answers
  case chatRequest = "chat-request"
  case chatTemplate = "chat-template"
  case config
  case constraint
  case conversation
  case exif
  case gguf
  case ggufModel = "gguf-model"
  case ggufTokenizer = "gguf-tokenizer"
  case jinja
  case jpeg
  case json
  case pickle
  case png
  case preprocessor
  case records
  case safetensors
  case sentencePiece = "sentencepiece"
  case text
  case tokenizerConfig = "tokenizer-config"
  case tokenizerJSON = "tokenizer-json"
  case torch
  case tsv
  case webp

  /// Reads the bytes and checks the message of an error.
  func test(_ bytes: [UInt8]) {
    do { try read(bytes) } catch let error as any UserFacingError {
      checkMessage(error.description)
    } catch {}
  }

  private func read(_ bytes: [UInt8]) throws {
    switch self {
    case .answers: try readAnswers(bytes)
    case .chatRequest: try readChatRequest(bytes)
    case .chatTemplate: try readChatTemplate(bytes)
    case .config: _ = try LLaVAConfiguration(directory: Scratch.folder(with: "config.json", bytes))
    case .constraint: try followConstraint(bytes)
    case .conversation: _ = try Conversation(json: Data(bytes))
    case .exif: try readExif(bytes)
    case .gguf: try readGGUF(bytes)
    case .ggufModel: try readGGUFModel(bytes)
    case .ggufTokenizer: try readGGUFTokenizer(bytes)
    case .jinja: try renderTemplate(bytes)
    case .jpeg, .webp: _ = try Self.decoder.decode(bytes)
    case .json: _ = try JSONParser.parse(bytes)
    case .pickle: _ = try TorchArchive(Scratch.file("a.bin", zipArchive(ofPickle: bytes)))
    case .png: try readPNG(bytes)
    case .preprocessor:
      _ = try PreprocessorConfiguration(JSONFile.section(at: Scratch.file("preprocessor_config.json", bytes)))
    case .records: parseRecords(bytes)
    case .safetensors: try readSafetensors(bytes)
    case .sentencePiece: try useTokenizer(Vocabulary.read(sentencePieceModel: bytes))
    case .text: try readText(bytes)
    case .tokenizerConfig: try readTokenizerConfiguration(bytes)
    case .tokenizerJSON: try useTokenizer(Vocabulary.read(tokenizerJSON: bytes))
    case .torch: _ = try TorchArchive(Scratch.file("a.bin", bytes))
    case .tsv: try readTable(bytes)
    }
  }

  /// The limits are the real ones. Images are turned in `exif` and `png`, where they are small.
  private static let decoder = ImageDecoder()
}

/// Messages are one line, without control characters, and of a bounded length.
private func checkMessage(_ message: String) {
  check(!message.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x7F }, "a control character in: \(message)")
  check(message.utf8.count <= 2000, "\(message.utf8.count) bytes in: \(message)")
}

/// Ends the process with a failure, with its reason also in release builds.
private func check(_ condition: Bool, _ failure: @autoclosure () -> String) {
  if !condition { fatalError(failure().debugDescription) }
}

// MARK: - Files of models

private func readSafetensors(_ bytes: [UInt8]) throws {
  let file = try SafetensorsFile(SharedBytes(copying: bytes), path: "model.safetensors")
  for name in file.records.keys.sorted() {
    _ = try file.bytes(name)
    do { _ = try file.tensor(name) } catch { checkMessage(error.description) }
  }
  _ = TensorChecksums.pieces(of: file)
}

/// One file: every metadata value as every type, and the values of every tensor.
private func readGGUF(_ bytes: [UInt8]) throws {
  let file = try GGUFFile(SharedBytes(copying: bytes), path: "model.gguf")
  let metadata = file.metadata
  for key in metadata.keys {
    _ = try? metadata.string(key)
    _ = try? metadata.bool(key)
    _ = try? metadata.integer(key)
    _ = try? metadata.strings(key)
    _ = try? metadata.floats(key)
    _ = try? metadata.integers(key)
  }
  for name in file.records.keys {
    do { _ = try file.tensor(name).floats() } catch { checkMessage(error.description) }
  }
}

/// A pair of files: the number of bytes of the first in two bytes, then both.
private func readGGUFModel(_ bytes: [UInt8]) throws {
  let count = bytes.prefix(2).reversed().reduce(0) { $0 << 8 | Int($1) }
  let (model, mmproj) = (bytes.dropFirst(2).prefix(count), bytes.dropFirst(2 + count))
  let files = try GGUFModel(
    "model.gguf", model: GGUFFile(SharedBytes(copying: Array(model)), path: "model.gguf"),
    mmproj: GGUFFile(SharedBytes(copying: Array(mmproj)), path: "mmproj.gguf"))
  let exports = [
    try GGUFExport.languageModel(files.configuration, name: "a"),
    try GGUFExport.visionEncoder(files.configuration, files.preprocessor(), name: "a"),
  ]
  for export in exports {
    for part in export.parts {
      do { _ = try export.tensor(part, of: files).floats() } catch { checkMessage(error.description) }
    }
  }
}

private func readChatTemplate(_ bytes: [UInt8]) throws {
  let folder = try Scratch.folder(with: "chat_template.jinja", bytes)
  check(!goldenTokenizers.isEmpty, "a golden tokenizer is missing")
  let directory = URL(filePath: folder)
  guard let template = try ChatTemplate.load(directory: directory, tokenizer: goldenTokenizers[0]) else { return }
  for systemPrompt in [nil, "", "Be brief."] {
    _ = try template.render([ChatMessage(question: "What is it?", imageCount: 1)], systemPrompt: systemPrompt)
  }
}

/// Renders a conversation of two turns, with limits so low that a slow template ends early.
private func renderTemplate(_ bytes: [UInt8]) throws {
  let template = try JinjaTemplate(String(decoding: bytes, as: UTF8.self))
  let limits = JinjaLimits(steps: 100_000, outputBytes: 1 << 16)
  let now = JinjaTime(year: 2024, month: 7, day: 26, weekday: 5)
  _ = try template.render(templateVariables, limits: limits, now: now)
}

/// Reads the body of a request to the server.
private func readChatRequest(_ bytes: [UInt8]) throws {
  let body = try JSONParser.parse(bytes)
  _ = ChatRequest.remoteImages(body)
  let access = try ImageAccess()
  do throws(APIError) {
    _ = try ChatRequest(body, like: Request(question: ""), access, layerCount: 32)
  } catch {
    check((400..<500).contains(error.status), "the status is \(error.status)")
    checkMessage(error.message)
  }
}

/// Compiles a JSON schema, or another text as a regular expression, and follows an answer of random bytes to its end.
private func followConstraint(_ bytes: [UInt8]) throws {
  let isSchema = bytes.first == UInt8(ascii: "{")
  let grammar = try Grammar(
    isSchema ? .jsonSchema(JSONParser.parse(bytes)) : .regex(String(decoding: bytes, as: UTF8.self)))
  var state = GrammarState(grammar, byteVocabulary)
  var generator = SplitMix64(seed: UInt64(bytes.count))
  for _ in 0..<100 {
    guard let token = state.mask().tokens.randomElement(using: &generator) else { break }
    check(state.allows(token) && state.accept(token), "a token of the mask is refused")
  }
  let completion = state.shortestCompletionTokens()
  check(completion != nil, "no completion")
  for token in completion ?? [] { check(state.accept(token), "a token of the completion is refused") }
  check(state.canEnd, "the completion is not complete")
}

private let byteVocabulary = TokenVocabulary(tokens: (0...255).map { [UInt8($0)] })

private let templateVariables: [String: JinjaValue] = {
  let json = """
    {"messages": [
      {"role": "system", "content": "Be brief. é"},
      {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]},
      {"role": "assistant", "content": "It."}, {"role": "user", "content": "Why?", "tool_calls": [1.5, null, true]}],
     "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>", "s": " Hello ", "l": [3, 1, 2],
     "d": {"b": 1, "a": {"z": null}}}
    """
  let members = (try? JSONParser.parse(Array(json.utf8)))?.members ?? []
  return Dictionary(uniqueKeysWithValues: members.map { ($0.key, JinjaValue($0.value)) })
}()

private func readTokenizerConfiguration(_ bytes: [UInt8]) throws {
  let value = try JSONParser.parse(bytes)
  let configuration = TokenizerConfigurationFiles(
    configuration: value["configuration"], added: value["added"], map: value["map"])
  try useTokenizer(Vocabulary.read(tokenizerJSON: smallTokenizer, configuration: configuration))
}

private let smallTokenizer = Array(
  #"{"model": {"type": "BPE", "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3, "b": 4, "ab": 5}, "merges": ["a b"]}}"#
    .utf8)

private func useTokenizer(_ vocabulary: Vocabulary) throws {
  let tokenizer = Tokenizer(vocabulary)
  let tokens = tokenizer.encodePrompt("USER: <image>\nWhat is ab? é\u{1F600} </s>")
  _ = tokenizer.decode(tokens, skipSpecialTokens: false)
  _ = tokenizer.pieces(of: tokens)
}

/// Reads the values of GGUF keys from JSON, so that mutations reach what is made of them, and writes them again.
private func readGGUFTokenizer(_ bytes: [UInt8]) throws {
  let root = try JSONParser.parse(bytes)
  func list<Element>(_ key: GGUFTokenizer.Key, _ element: (JSONValue) -> Element?) -> [Element]? {
    root[key.rawValue].array?.compactMap(element)
  }
  func value(_ key: GGUFTokenizer.Key) -> JSONValue { root[key.rawValue] }
  var tokenizer = GGUFTokenizer()
  tokenizer.model = value(.model).string ?? ""
  tokenizer.pre = value(.pre).string
  tokenizer.tokens = list(.tokens, \.string) ?? []
  tokenizer.scores = list(.scores) { score in
    if case .number(let value) = score { Float(value) } else { score.integer.map(Float.init) }
  }
  tokenizer.types = list(.types) { $0.integer.map(Int32.init(truncatingIfNeeded:)) }
  tokenizer.merges = list(.merges, \.string)
  tokenizer.bosToken = value(.bosToken).integer
  tokenizer.eosToken = value(.eosToken).integer
  tokenizer.eotToken = value(.eotToken).integer
  tokenizer.eomToken = value(.eomToken).integer
  tokenizer.unkToken = value(.unkToken).integer
  tokenizer.padToken = value(.padToken).integer
  tokenizer.addsBOS = value(.addsBOS).bool
  tokenizer.addsSpacePrefix = value(.addsSpacePrefix).bool
  tokenizer.removesExtraWhitespaces = value(.removesExtraWhitespaces).bool
  tokenizer.huggingFaceJSON = value(.huggingFaceJSON).string
  tokenizer.isLegacy = value(.isLegacy).bool
  let ends = tokenizer.eosTokens
  check(ends.allSatisfy { $0 >= 0 && $0 < tokenizer.tokens.count }, "EOS tokens \(ends) outside the vocabulary")
  let vocabulary = try Vocabulary.load(gguf: tokenizer, file: "model.gguf")
  try useTokenizer(vocabulary)
  _ = try GGUFTokenizer(vocabulary)
}

private let goldenTokenizers = ["Goldens/tokenizer", "Goldens/tokenizer_metaspace", "Fixtures/tokenizers/llama3"]
  .compactMap { try? Tokenizer(directory: Scratch.tests.appending(path: $0)) }

/// Encodes text and decodes bytes as tokens, by a tokenizer that depends on the number of bytes.
private func readText(_ bytes: [UInt8]) throws {
  check(goldenTokenizers.count == 3, "a golden tokenizer is missing")
  let tokenizer = goldenTokenizers[bytes.count % 3]
  let tokens = tokenizer.encode(String(decoding: bytes, as: UTF8.self))
  _ = tokenizer.decode(tokens, skipSpecialTokens: false)
  var detokenizer = Detokenizer(tokenizer)
  for byte in bytes { _ = detokenizer.push(Int32(byte)) }
  _ = detokenizer.finish()
}

// MARK: - Files of batches and benchmarks

private func parseRecords(_ bytes: [UInt8]) {
  let parser = RecordParser(base: Request(question: ""), folder: nil)
  let writer = AnswerLines(model: "m")
  // Lines are read one by one, so that a few are as good as many.
  let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).prefix(3)
  for (index, line) in lines.enumerated() {
    let line = Line(number: index + 1, bytes: Array(line), byteCount: line.count, offset: 0, isComplete: true)
    let parsed = parser.record(line, orElse: .llava)
    guard case .failure(let failure) = parsed.request else { continue }
    checkMessage(failure.description)
    let written = writer.line(parsed.record, .failure(failure))
    check(written.count { $0 == UInt8(ascii: "\n") } == 1, "an answer of several lines")
    check((try? JSONParser.parse(written)) != nil, "an answer that is not JSON")
  }
}

private func readAnswers(_ bytes: [UInt8]) throws {
  let path = try Scratch.file("answers.jsonl", bytes)
  let policy = try RunReport.Policy(NoDropping(), layerCount: 4)
  let origin = AnswerOrigin(BatchRunDescription(model: "m", policy: policy, precision: "f32", threads: 1))
  do { _ = try PreviousAnswers(of: path, comparedWith: origin) } catch { checkMessage(error.description) }
  _ = try AnswerSet(reading: path).savedFlops
}

private func readTable(_ bytes: [UInt8]) throws {
  var table = try TSVReader(Scratch.file("table.tsv", bytes), required: [])
  while let (row, _) = try table.next() {
    for column in ["index", "question", "answer", "A"] { _ = row[column].map(PythonList.strings) }
  }
}

// MARK: - Images

private func readPNG(_ bytes: [UInt8]) throws {
  var decoder = ImageDecoder()
  decoder.appliesOrientation = true
  // Damaged chunks are refused by their checksums. With right ones, the mutations reach the decoder.
  do { _ = try decoder.decode(bytes) } catch { checkMessage(error.description) }
  _ = try decoder.decode(withChecksums(png: bytes))
}

/// Decodes a small image with the bytes as its metadata; the first byte chooses their place.
private func readExif(_ bytes: [UInt8]) throws {
  guard let place = bytes.first else { return }
  var decoder = ImageDecoder()
  decoder.appliesOrientation = true
  let image = try decoder.decode(smallImage(place: place, metadata: Array(bytes.dropFirst())))
  check(image.width * image.height == 8, "an image of \(image.width) x \(image.height) pixels")
}
