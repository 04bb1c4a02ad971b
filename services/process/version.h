#pragma once

namespace lectern::services {

// Of this build: "0.1.0".
const char* Version();

}  // namespace lectern::services
