import Foundation

/// A line that somebody types in a chat: a question, or a command that begins with `/`.
enum ChatLine: Equatable {
  case empty
  case question(String)
  case image(path: String)
  case clear, help, exit
  /// A command that cannot be carried out, and why.
  case wrong(String)

  static let helpText = [
    "/image PATH  add a picture to the next question",
    "/clear       forget the conversation and its pictures",
    "/exit        end the chat, as the end of input does",
    "Ctrl-C stops an answer; any other line is a question. Every question ranks all visual tokens anew, so those dropped",
    "for one question are there again for the next.",
  ]

  init(_ line: String) {
    let text = line.trimmingCharacters(in: .whitespacesAndNewlines)
    guard line.hasPrefix("/") else {
      self = text.isEmpty ? .empty : .question(text)
      return
    }
    let words = text.split(maxSplits: 1, whereSeparator: \.isWhitespace).map(String.init)
    switch (words[0], words.dropFirst().first) {
    case ("/image", let path?): self = .image(path: (path as NSString).expandingTildeInPath)
    case ("/image", nil): self = .wrong("/image needs the path of a picture")
    case ("/clear", nil): self = .clear
    case ("/help", nil): self = .help
    case ("/exit", nil), ("/quit", nil): self = .exit
    default: self = .wrong("\(text): no such command; /help lists them")
    }
  }
}
