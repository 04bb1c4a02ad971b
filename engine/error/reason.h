// The stable reasons an engine error carries. A client program switches on them (services send them
// as google.rpc.ErrorInfo.reason), so a reason, once released, keeps its spelling and its meaning.
#pragma once

#include <string_view>

namespace lectern::engine::reason {

// Documents (engine/text/extractor.h). The metadata key `offset` is a byte offset in the uploaded
// bytes.
inline constexpr std::string_view kDocumentEmpty = "DOCUMENT_EMPTY";
inline constexpr std::string_view kDocumentWithoutText = "DOCUMENT_WITHOUT_TEXT";
inline constexpr std::string_view kDocumentNotUtf8 = "DOCUMENT_NOT_UTF8";
inline constexpr std::string_view kDocumentBinary = "DOCUMENT_BINARY";
inline constexpr std::string_view kDocumentTooLarge = "DOCUMENT_TOO_LARGE";
inline constexpr std::string_view kPdfEncrypted = "PDF_ENCRYPTED";
inline constexpr std::string_view kPdfBroken = "PDF_BROKEN";
inline constexpr std::string_view kPdfTooComplex = "PDF_TOO_COMPLEX";
inline constexpr std::string_view kMediaTypeUnknown = "MEDIA_TYPE_UNKNOWN";
inline constexpr std::string_view kHtmlTooDeep = "HTML_TOO_DEEP";

// Text handed to the tokenizer or the prompt layout. `tokens` and `limit` are metadata of the two
// limit reasons.
inline constexpr std::string_view kTextNotUtf8 = "TEXT_NOT_UTF8";
inline constexpr std::string_view kTextTooLong = "TEXT_TOO_LONG";
inline constexpr std::string_view kWordTooLong = "WORD_TOO_LONG";
inline constexpr std::string_view kContextTooLong = "CONTEXT_TOO_LONG";
inline constexpr std::string_view kCorpusTooLong = "CORPUS_TOO_LONG";
inline constexpr std::string_view kQuestionEmpty = "QUESTION_EMPTY";
inline constexpr std::string_view kQuestionTooLong = "QUESTION_TOO_LONG";

// The model directory (engine/text/tokenizer.h, engine/model).
inline constexpr std::string_view kModelFileUnreadable = "MODEL_FILE_UNREADABLE";
inline constexpr std::string_view kTokenizerBroken = "TOKENIZER_BROKEN";
inline constexpr std::string_view kTokenizerUnsupported = "TOKENIZER_UNSUPPORTED";
inline constexpr std::string_view kModelConfigBroken = "MODEL_CONFIG_BROKEN";
inline constexpr std::string_view kModelUnsupported = "MODEL_UNSUPPORTED";
inline constexpr std::string_view kSparseConfigMissing = "SPARSE_CONFIG_MISSING";
inline constexpr std::string_view kSafetensorsBroken = "SAFETENSORS_BROKEN";
inline constexpr std::string_view kTensorMissing = "TENSOR_MISSING";
inline constexpr std::string_view kTensorShape = "TENSOR_SHAPE";
inline constexpr std::string_view kTensorDtype = "TENSOR_DTYPE";
inline constexpr std::string_view kTensorValue = "TENSOR_VALUE";
inline constexpr std::string_view kTensorUnexpected = "TENSOR_UNEXPECTED";
inline constexpr std::string_view kModelTokenizerMismatch = "MODEL_TOKENIZER_MISMATCH";

// Bytes we stored ourselves and read back (source maps, layout parts).
inline constexpr std::string_view kStoredFormatNewer = "STORED_FORMAT_NEWER";
inline constexpr std::string_view kStoredBytesCorrupt = "STORED_BYTES_CORRUPT";

}  // namespace lectern::engine::reason
