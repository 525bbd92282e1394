/**
 * Errors of the library that every copy of it knows. Apart from the classes, because the executable, which has one copy
 * of each, does not need this, and its start no time for it.
 */
import { recognizeAnyCopy } from './config/anyCopy.ts';
import { ConfigError } from './config/configError.ts';
import { PlatformError } from './platform/platformError.ts';
import { VmmError } from './vmm/errors.ts';

recognizeAnyCopy(ConfigError, 'ConfigError');
recognizeAnyCopy(PlatformError, 'PlatformError');
recognizeAnyCopy(VmmError, 'VmmError');
