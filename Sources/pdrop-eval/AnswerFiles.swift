import Foundation

/// The answer files in a folder, of our runs and of LLaVA's scripts.
enum AnswerFiles {
  /// Files by what they are called, in the order of their names.
  ///
  /// LLaVA's scripts put the parts of an answer file and the whole, `merge.jsonl`, into a folder of the model's name; and what
  /// ScienceQA's scorer writes beside its answers is none.
  static func find(in folder: String) -> [(name: String, path: String)] {
    let paths = (FileManager.default.enumerator(atPath: folder)?.compactMap { $0 as? String } ?? [])
      .filter { $0.hasSuffix(".jsonl") && !$0.hasSuffix("_output.jsonl") }
    let merged = Set(paths.filter { $0.hasSuffix("/merge.jsonl") }.map(directory))
    let whole = paths.filter { !merged.contains(directory($0)) || $0.hasSuffix("/merge.jsonl") }
    return whole.sorted().map { path in
      let name = path.hasSuffix("/merge.jsonl") ? directory(path) : String(path.dropLast(".jsonl".count))
      return (name, folder + "/" + path)
    }
  }

  private static func directory(_ path: String) -> String {
    path.split(separator: "/").dropLast().joined(separator: "/")
  }
}
