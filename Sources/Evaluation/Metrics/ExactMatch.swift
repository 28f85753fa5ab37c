internal import Foundation

/// Whether an answer is the right one, but for white space around it and the case of its letters.
package func isExactMatch(_ answer: String, _ label: String) -> Bool { plain(answer) == plain(label) }

/// In small letters, without white space around it.
func plain(_ text: String) -> String { text.trimmingCharacters(in: .whitespacesAndNewlines).lowercased() }
