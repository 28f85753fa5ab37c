import Foundation
import TestSupport
import Testing

@Suite struct ModelDirectoryTests {
  private static let model = Goldens.folder.deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Models/tiny-textvqa")

  /// Copies files of the bundled model by name.
  private func copy(_ names: String..., into folder: borrowing TemporaryFolder) throws {
    for name in names { try folder.write(name, Data(contentsOf: Self.model.appending(path: name))) }
  }

  private func expectError(_ directory: String, _ words: String, sourceLocation: SourceLocation = #_sourceLocation)
    throws
  {
    try ProgramRun(["-m", directory, "-p", "a"]).expectFailure(3, words, sourceLocation: sourceLocation)
  }

  @Test func `names each missing or invalid file`() throws {
    let folder = try TemporaryFolder()
    try expectError(folder.path("none"), "expected a model directory")
    try expectError(folder.write("file", "x"), "expected a model directory")
    try expectError(folder.path, "config.json: no such file")
    try copy("config.json", into: folder)
    try expectError(folder.path, "no weights")
    try folder.write("model.gguf", "x")
    try expectError(folder.path, "safe_serialization=True")
    try folder.write("pytorch_model.bin", Data(contentsOf: Fixtures.url("torch/legacy.bin")))
    try expectError(folder.path, "run in its directory: python3 -c \"import glob, torch")
    try folder.write("pytorch_model.bin", Data(contentsOf: Fixtures.url("torch/command.bin")))
    try expectError(folder.path, #"refers to "posix.system""#)
    try folder.write("model.safetensors", "")
    try expectError(folder.path, "the file is empty")
    let weights = try Data(contentsOf: Self.model.appending(path: "model.safetensors"))
    try folder.write("model.safetensors", weights.prefix(weights.count / 2))
    try expectError(folder.path, "truncated")
    try folder.write("model.safetensors", weights)
    try expectError(folder.path, "tokenizer")
    try copy("tokenizer.json", "tokenizer_config.json", "added_tokens.json", into: folder)
    try folder.write("preprocessor_config.json", #"{"crop_size": 0}"#)
    try expectError(folder.path, "crop_size")
    try copy("preprocessor_config.json", into: folder)
    try folder.write("generation_config.json", #"{"eos_token_id": "</s>"}"#)
    try expectError(folder.path, "eos_token_id")
  }

  @Test func `prints an error in one line for any file name`() throws {
    let folder = try TemporaryFolder()
    try expectError(folder.path("a\nerror: b\r\u{1B}[2J\u{2028}\u{202E}"), #"a\nerror: b\r\u{1B}[2J\u{2028}\u{202E}"#)
    try folder.write("config.json", #"{"model_type": "llava\n\u001b[31m\nerror: x"}"#)
    try expectError(folder.path, #"llava\n\u{1B}[31m\nerror: x"#)
    try folder.write("config.json", #"{"model_type": "\#(String(repeating: "x", count: 100_000))"}"#)
    let run = try ProgramRun(["-m", folder.path, "-p", "a"])
    run.expectFailure(3, "xxx")
    #expect(run.errors.utf8.count < 10_000)
  }

  @Test func `names an unreadable text file`() throws {
    let folder = try TemporaryFolder()
    let missing = folder.path("none.txt")
    try ProgramRun(["tokenize", "-f", missing]).expectFailure(3, missing)
    try ProgramRun(["-f", missing]).expectFailure(3, missing)
    try ProgramRun(["tokenize", "-f", folder.path]).expectFailure(3, folder.path)
    try ProgramRun(["tokenize", "-f", folder.write("bytes", [0xC3, 0x28])]).expectFailure(3, "UTF-8")
    try ProgramRun(["tokenize", "-p", "a", "-m", missing]).expectFailure(3, "none.txt")
  }
}
