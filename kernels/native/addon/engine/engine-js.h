#pragma once

#include "../js.h"

namespace cellbatch {

/** Adds the functions of device engines; see ../../load.ts for their types. */
void addEngineFunctions(const Values& js, napi_value exports);

}  // namespace cellbatch
